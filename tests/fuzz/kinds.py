"""Every kind of file that a public function reads."""

from tests.fuzz.image_kinds import IMAGE_KINDS
from tests.fuzz.network_kinds import NETWORK_KINDS
from tests.fuzz.report_kinds import REPORT_KINDS
from tests.fuzz.run_kinds import RUN_KINDS
from tests.fuzz.text_kinds import TEXT_KINDS
from tests.fuzz.work_kinds import WORK_KINDS

KINDS = (*IMAGE_KINDS, *NETWORK_KINDS, *RUN_KINDS, *TEXT_KINDS, *REPORT_KINDS, *WORK_KINDS)
