"""Tiny pipelines with random weights and text encoders, saved as a fine-tune is: folders that `from_pretrained` opens.

folder, call = saved("sd15", tmp_path)         # arguments of the call, without a prompt
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.pipelines import PIPELINES

GIVEN = ("generator", "output_type", "num_inference_steps", "batch_size", "class_labels", "prompt", "negative_prompt")


def saved(kind: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A pipeline of one kind in a folder, and the arguments that its call needs beside prompt and steps."""
    pipe, arguments = PIPELINES[kind]()
    for name, part in TEXTS.get(kind, lambda _: {})(folder).items():
        pipe.register_modules(**{name: part})
    if kind == "sd15":
        with torch.no_grad():  # a network that hears its prompt, which random weights hardly do
            for name, weight in pipe.unet.named_parameters():
                weight.mul_(30 if "attn2.to_out" in name else 1)
    pipe.save_pretrained(folder / kind)
    embedded = [name for name in arguments if "embeds" in name or "mask" in name]
    return folder / kind, {name: value for name, value in arguments.items() if name not in (*GIVEN, *embedded)}


def clip_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of single characters, 16 tokens long."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def clip_encoder(tokenizer: Any, width: int, *, projected: bool = False) -> Any:
    """A CLIP text model of two layers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=width, bos_token_id=len(tokenizer) - 2,
        eos_token_id=len(tokenizer) - 1, pad_token_id=len(tokenizer) - 1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def t5_tokenizer() -> Any:
    """A T5 tokenizer of single characters."""
    from transformers import T5TokenizerFast

    letters = [(chr(code), -2.0) for code in range(33, 127)]
    return T5TokenizerFast(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *letters], extra_ids=0, model_max_length=16
    )


def t5_encoder(tokenizer: Any, width: int, *, kind: str = "T5") -> Any:
    """A T5 encoder of one layer."""
    import transformers

    torch.manual_seed(4)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2
    )
    return getattr(transformers, f"{kind}EncoderModel")(config).eval()


def _sd15(folder: Path) -> dict[str, Any]:
    tokenizer = clip_tokenizer(folder)
    return {"tokenizer": tokenizer, "text_encoder": clip_encoder(tokenizer, 16)}


def _sdxl(folder: Path) -> dict[str, Any]:
    tokenizer = clip_tokenizer(folder)
    return {
        "tokenizer": tokenizer, "tokenizer_2": tokenizer, "text_encoder": clip_encoder(tokenizer, 8),
        "text_encoder_2": clip_encoder(tokenizer, 8, projected=True),
    }  # fmt: skip


def _sd3(folder: Path) -> dict[str, Any]:
    tokenizer, third = clip_tokenizer(folder), t5_tokenizer()
    return {
        "tokenizer": tokenizer, "tokenizer_2": tokenizer, "text_encoder": clip_encoder(tokenizer, 32, projected=True),
        "text_encoder_2": clip_encoder(tokenizer, 32, projected=True), "tokenizer_3": third,
        "text_encoder_3": t5_encoder(third, 32),
    }  # fmt: skip


def _flux(folder: Path) -> dict[str, Any]:
    tokenizer, second = clip_tokenizer(folder), t5_tokenizer()
    return {
        "tokenizer": tokenizer, "text_encoder": clip_encoder(tokenizer, 32), "tokenizer_2": second,
        "text_encoder_2": t5_encoder(second, 32),
    }  # fmt: skip


def _t5(width: int, kind: str = "T5") -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        tokenizer = t5_tokenizer()
        return {"tokenizer": tokenizer, "text_encoder": t5_encoder(tokenizer, width, kind=kind)}

    return made


TEXTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "sd15": _sd15,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux_true": _flux,
    "flux_distilled": _flux,
    "pixart": _t5(32),
    "wan21": _t5(32, "UMT5"),
    "stable_audio": _t5(4),
}


def single_file(pipe: Any, path: Path) -> Path:
    """The weights of a tiny Stable Diffusion under the names of the original code, in one file."""
    from safetensors.torch import save_file

    unet = {f"model.diffusion_model.{_renamed(name, UNET)}": w for name, w in pipe.unet.state_dict().items()}
    vae = {f"first_stage_model.{_renamed(name, VAE)}": _as_convolution(name, w) for name, w in _vae_weights(pipe)}
    text = {f"cond_stage_model.transformer.text_model.{name}": w for name, w in pipe.text_encoder.state_dict().items()}
    save_file({name: weight.contiguous() for name, weight in {**unet, **vae, **text}.items()}, path)
    return path


# of a network of two levels, attention in the lower one, one layer a level
UNET = (
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
    ("down_blocks.0.resnets.0", "input_blocks.1.0"), ("down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"),
    ("down_blocks.1.resnets.0", "input_blocks.3.0"), ("down_blocks.1.attentions.0", "input_blocks.3.1"),
    ("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
    ("up_blocks.0.resnets.0", "output_blocks.0.0"), ("up_blocks.0.attentions.0", "output_blocks.0.1"),
    ("up_blocks.0.resnets.1", "output_blocks.1.0"), ("up_blocks.0.attentions.1", "output_blocks.1.1"),
    ("up_blocks.0.upsamplers.0", "output_blocks.1.2"), ("up_blocks.1.resnets.0", "output_blocks.2.0"),
    ("up_blocks.1.resnets.1", "output_blocks.3.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
    (".norm1.", ".in_layers.0."), (".conv1.", ".in_layers.2."), (".norm2.", ".out_layers.0."),
    (".conv2.", ".out_layers.3."), ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection"),
)  # fmt: skip
VAE = (
    ("down_blocks.", "down."), ("up_blocks.0", "up.1"), ("up_blocks.1", "up.0"), (".resnets.", ".block."),
    ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample"), ("mid_block.attentions.0", "mid.attn_1"),
    ("mid_block.block.0", "mid.block_1"), ("mid_block.block.1", "mid.block_2"), ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"), ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
    ("to_out.0", "proj_out"),
)  # fmt: skip


def _renamed(name: str, names: tuple[tuple[str, str], ...]) -> str:
    inside = "transformer_blocks" in name  # whose norms keep their names
    for ours, theirs in names:
        if not (inside and ours.startswith(".")):
            name = name.replace(ours, theirs)
    return "input_blocks.0.0" + name.removeprefix("conv_in") if name.startswith("conv_in") else name


def _vae_weights(pipe: Any) -> Any:
    return pipe.vae.state_dict().items()


def _as_convolution(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Attention of the original is made of convolutions of one pixel."""
    linear = ".attentions." in name and weight.ndim == 2
    return weight[..., None, None] if linear else weight
