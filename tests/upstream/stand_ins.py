"""Tokenizers, processors and text models that tests take from a hub, made here: nothing is downloaded."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import transformers

from tests.saved_pipelines import clip_tokenizer, t5_tokenizer

_MARKS = {  # of chat templates; the numbers are those of Qwen's vocabulary, which its models look for
    "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|vision_start|>": 151652,
    "<|vision_end|>": 151653, "<|vision_pad|>": 151654, "<|image_pad|>": 151655, "<|video_pad|>": 151656,
}  # fmt: skip
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class NotHere(Exception):
    """What a test takes from a hub has no stand-in."""


def letters(**options: Any) -> Any:
    """A tokenizer of single characters, with the marks of chat templates."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, **{chr(code): code - 20 for code in range(32, 127)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary | {"\n": 110} | _MARKS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<\|\w+\|>|[\s\S]"), "isolated")
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=list(_MARKS), model_max_length=options.get("model_max_length", 512),
        padding_side=options.get("padding_side", "right"),
    )  # fmt: skip
    made.chat_template = _CHAT
    made.image_token, made.video_token = "<|image_pad|>", "<|video_pad|>"
    made.image_token_id, made.video_token_id = _MARKS["<|image_pad|>"], _MARKS["<|video_pad|>"]
    return made


def clip(**options: Any) -> Any:
    """A CLIP tokenizer of single characters."""
    with tempfile.TemporaryDirectory() as folder:
        made = clip_tokenizer(Path(folder))
    made.model_max_length = options.get("model_max_length", 77)
    return made


def t5(**options: Any) -> Any:
    """A T5 tokenizer of single characters."""
    made = t5_tokenizer()
    made.model_max_length = options.get("model_max_length", 512)
    return made


def t5_config() -> Any:
    """A T5 model of one layer, 32 wide."""
    return transformers.T5Config(vocab_size=1103, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)


def _qwen_processor(cls: type) -> Any:
    images = transformers.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56)
    more = {}
    if "video_processor" in cls.get_attributes():
        kind = getattr(transformers, cls.__name__.replace("Processor", "VideoProcessor"))
        more["video_processor"] = kind()
    return cls(image_processor=images, tokenizer=letters(), chat_template=_CHAT, **more)


_SMALL = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS: dict[str, Callable[[], Any]] = {
    "T5EncoderModel": lambda: transformers.T5EncoderModel(t5_config()),
    "UMT5EncoderModel": lambda: transformers.UMT5EncoderModel(
        transformers.UMT5Config(vocab_size=1103, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    ),
    "BertModel": lambda: transformers.BertModel(transformers.BertConfig(vocab_size=1103, **_SMALL)),
    "LlamaForCausalLM": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=1103, **_SMALL | {"hidden_size": 16})
    ),
}


def _tokenizer(cls: type, name: Any, *_: Any, **options: Any) -> Any:
    kind = f"{cls.__name__} {name}".lower()
    return clip(**options) if "clip" in kind else t5(**options) if "t5" in kind else letters(**options)


def _config(cls: type, name: Any, *_: Any, **__: Any) -> Any:
    if "t5" in str(name).lower():
        return t5_config()
    raise NotHere(f"{cls.__name__} of {name}")


def _model(cls: type, name: Any, *_: Any, **__: Any) -> Any:
    if cls.__name__ not in MODELS:
        raise NotHere(f"{cls.__name__} of {name}")
    torch.manual_seed(0)
    return MODELS[cls.__name__]().eval()


def _processor(cls: type, name: Any, *_: Any, **__: Any) -> Any:
    if cls is transformers.AutoProcessor:
        cls = transformers.Qwen2VLProcessor
    if not cls.__name__.startswith("Qwen"):
        raise NotHere(f"{cls.__name__} of {name}")
    return _qwen_processor(cls)


def _nothing(cls: type, name: Any, *_: Any, **__: Any) -> Any:
    raise NotHere(f"{cls.__name__} of {name}")


@contextmanager
def stand_ins() -> Iterator[None]:
    """`from_pretrained` makes what it can, and says so where it cannot."""
    import diffusers
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.feature_extraction_utils import FeatureExtractionMixin

    made = {
        transformers.PreTrainedTokenizerBase: _tokenizer, transformers.AutoTokenizer: _tokenizer,
        transformers.PreTrainedConfig: _config, transformers.AutoConfig: _config,
        transformers.PreTrainedModel: _model, transformers.ProcessorMixin: _processor,
        transformers.AutoProcessor: _processor, ImageProcessingMixin: _nothing, FeatureExtractionMixin: _nothing,
        diffusers.DiffusionPipeline: _nothing, diffusers.ModelMixin: _nothing,
    }  # fmt: skip
    with ExitStack() as stack:
        for kind, make in made.items():
            stack.enter_context(mock.patch.object(kind, "from_pretrained", classmethod(make)))
        yield
