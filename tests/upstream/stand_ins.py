"""Tokenizers, processors and text models that tests take from a hub, made here: nothing is downloaded."""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import transformers
from torch import nn

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


def letters(*, qwen: bool = True, **options: Any) -> Any:
    """A tokenizer of the first letters of words, with the marks of chat templates, numbered as Qwen's or low.

    Pipelines count the tokens of their templates, so that a word has to be one.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, **{chr(code): code - 20 for code in range(32, 127)}}
    marks = _MARKS if qwen else {mark: 120 + place for place, mark in enumerate(_MARKS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary | {"\n": 110} | marks, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(Regex(r"(?<=\w)\w+| "), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<\|\w+\|>|[\s\S]"), "isolated")
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=list(_MARKS), model_max_length=options.get("model_max_length", 512),
        padding_side=options.get("padding_side", "right"),
    )  # fmt: skip
    made.chat_template = _CHAT
    made.image_token, made.video_token = "<|image_pad|>", "<|video_pad|>"
    made.image_token_id, made.video_token_id = marks["<|image_pad|>"], marks["<|video_pad|>"]
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


class Processor:
    """Text with images for models of Qwen's kind: every image mark becomes as many as the image has patches."""

    def __init__(self, *, qwen: bool = True) -> None:
        self.tokenizer = letters(qwen=qwen)
        self.image_processor = transformers.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28)

    def __call__(self, text: Any = None, images: Any = None, **options: Any) -> Any:
        """Token ids, masks, and patches where there are images."""
        texts, found = [text] if isinstance(text, str) else list(text), {}
        if images is not None and images != []:
            found = dict(self.image_processor(images=images, return_tensors="pt"))
            counts = (int(grid.prod()) // self.image_processor.merge_size**2 for grid in found["image_grid_thw"])
            texts = [re.sub(r"<\|image_pad\|>", lambda mark: mark[0] * next(counts, 1), one) for one in texts]
        names = ("padding", "padding_side", "max_length", "truncation", "return_tensors")
        given = {key: value for key, value in options.items() if key in names}
        found |= self.tokenizer(texts, **given)
        found["mm_token_type_ids"] = (found["input_ids"] == self.tokenizer.image_token_id).long()
        return transformers.BatchFeature(found)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def _qwen2_vl() -> Any:
    text = _SMALL | {"hidden_size": 16, "num_key_value_heads": 2, "vocab_size": 152064}
    text["rope_parameters"] = {"type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e6}
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 1}
    config = transformers.Qwen2VLConfig(text_config=text, vision_config=vision)
    return transformers.Qwen2VLForConditionalGeneration(config)


def _qwen3_vl() -> Any:
    text = _SMALL | {"hidden_size": 16, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 152064}
    text["rope_parameters"] = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    vision["deepstack_visual_indexes"] = [1]
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision)
    return transformers.Qwen3VLForConditionalGeneration(config)


def _siglip() -> Any:
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**_SMALL, image_size=224, patch_size=56))


def _gemma3() -> Any:
    text = _SMALL | {"num_key_value_heads": 2, "vocab_size": 152064, "head_dim": 8, "sliding_window": 8}
    vision = _SMALL | {"image_size": 28, "patch_size": 14}
    return transformers.Gemma3ForConditionalGeneration(
        transformers.Gemma3Config(text_config=text, vision_config=vision)
    )


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
    "Qwen2VLForConditionalGeneration": _qwen2_vl,
    "Qwen3VLForConditionalGeneration": _qwen3_vl,
    "SiglipVisionModel": _siglip,
    "Gemma3ForConditionalGeneration": _gemma3,
}


def _tokenizer(cls: type, name: Any, *_: Any, **options: Any) -> Any:
    kind = f"{cls.__name__} {name}".lower()
    return (
        clip(**options)
        if "clip" in kind
        else t5(**options)
        if "t5" in kind
        else letters(qwen="qwen" in kind, **options)
    )


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
    return Processor(qwen="qwen" in f"{cls.__name__} {name}".lower())


def _image_processor(cls: type, name: Any, *_: Any, **__: Any) -> Any:
    return cls()


def _nothing(cls: type, name: Any, *_: Any, **__: Any) -> Any:
    raise NotHere(f"{cls.__name__} of {name}")


def wrap_vocabularies(pipe: Any) -> None:
    """Let text models of a few words take every token."""
    for part in pipe.components.values():
        for inner in part.modules() if isinstance(part, transformers.PreTrainedModel) else ():
            if isinstance(inner, nn.Embedding):
                inner.register_forward_pre_hook(lambda module, args: (args[0] % module.num_embeddings, *args[1:]))


@contextmanager
def stand_ins() -> Iterator[None]:
    """`from_pretrained` makes what it can, and says so where it cannot."""
    import diffusers
    from transformers.feature_extraction_utils import FeatureExtractionMixin
    from transformers.image_processing_base import ImageProcessingMixin

    made = {
        transformers.PreTrainedTokenizerBase: _tokenizer, transformers.AutoTokenizer: _tokenizer,
        transformers.PreTrainedConfig: _config, transformers.AutoConfig: _config,
        transformers.PreTrainedModel: _model, transformers.ProcessorMixin: _processor,
        transformers.AutoProcessor: _processor, ImageProcessingMixin: _image_processor,
        FeatureExtractionMixin: _nothing, diffusers.DiffusionPipeline: _nothing, diffusers.ModelMixin: _nothing,
    }  # fmt: skip
    with ExitStack() as stack:
        for kind, make in made.items():
            stack.enter_context(mock.patch.object(kind, "from_pretrained", classmethod(make)))
        _libraries()
        yield


def _libraries() -> None:
    """What pipelines take from ftfy and torchvision, where these are not installed; and images small."""
    resized = SimpleNamespace(resize=lambda image, size, interpolation: nn.functional.interpolate(image, size))
    transforms = SimpleNamespace(functional=resized, InterpolationMode=SimpleNamespace(NEAREST="nearest"))
    for name, module in list(sys.modules.items()):
        if name.startswith("diffusers.") and "is_ftfy_available" in vars(module):
            vars(module).setdefault("ftfy", SimpleNamespace(fix_text=str))
        if name.startswith("diffusers.models") and "is_torchvision_available" in vars(module):
            vars(module).setdefault("transforms", transforms)
        if name.startswith("diffusers.pipelines") and "calculate_dimensions" in vars(module):
            small = module.calculate_dimensions(64 * 64, 1.0)  # in place of the megapixel to which images are brought
            vars(module)["calculate_dimensions"] = lambda *_, small=small: small
