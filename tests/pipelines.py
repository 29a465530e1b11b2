"""Tiny diffusers pipelines with random weights, built from configurations: nothing is downloaded.

    pipe, arguments = PIPELINES["sd15"]()
    pipe(**arguments)

Text encoders are left out where the pipeline accepts embeddings, which are drawn here.
"""

from collections.abc import Callable
from typing import Any

import torch

Built = tuple[Any, dict[str, Any]]

GUIDANCE = 5.0


def embeddings(*shape: int, seed: int) -> torch.Tensor:
    """Random embeddings in place of a text encoder's."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator().manual_seed(seed)


def _vae(channels: int = 4, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        in_channels=3,
        out_channels=3,
        latent_channels=channels,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **more,
    )


def _unet(cross: int = 16, size: int = 8, **more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=size,
        in_channels=more.pop("in_channels", 4),
        out_channels=more.pop("out_channels", 4),
        cross_attention_dim=cross,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **more,
    ).eval()


def _stable_diffusion(kind: Any, unet: Any, scheduler: Any) -> Any:
    from diffusers import DDIMScheduler

    pipe = kind(
        vae=_vae(),
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=scheduler
        if scheduler is not None
        else DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sd15(scheduler: Any = None, *, batch: int = 1, unet: Any = None, steps: int = 4) -> Built:
    """Stable Diffusion 1.5: one doubled call [uncond, cond]."""
    from diffusers import StableDiffusionPipeline

    pipe = _stable_diffusion(StableDiffusionPipeline, unet if unet is not None else _unet(), scheduler)
    return pipe, {
        "prompt_embeds": embeddings(batch, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(batch, 5, 16, seed=3),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": steps,
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def _sdxl_unet() -> Any:
    return _unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
        use_linear_projection=True,
        transformer_layers_per_block=(1, 1),
    )


def sdxl() -> Built:
    """Stable Diffusion XL: as 1.5, with added conditions."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=_sdxl_unet(),
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "pooled_prompt_embeds": embeddings(1, 8, seed=4),
        "negative_pooled_prompt_embeds": embeddings(1, 8, seed=5),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def sd3() -> Built:
    """Stable Diffusion 3: a transformer, flow matching."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
    ).eval()
    pipe = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(4, shift_factor=0.1),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 32, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 32, seed=3),
        "pooled_prompt_embeds": embeddings(1, 64, seed=4),
        "negative_pooled_prompt_embeds": embeddings(1, 64, seed=5),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def dit() -> Built:
    """DiT: [cond, uncond], the scheduler receives both halves, learned variance dropped after guidance."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=4,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    ).eval()
    pipe = DiTPipeline(transformer=transformer, vae=_vae(), scheduler=DDIMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "class_labels": [1, 2],
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "output_type": "np",
        "generator": generator(),
    }


def pixart() -> Built:
    """PixArt-Sigma: guidance on 2C channels, then the variance is dropped."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    torch.manual_seed(0)
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        use_additional_conditions=False,
    ).eval()
    pipe = PixArtSigmaPipeline(
        transformer=transformer, vae=_vae(), scheduler=DPMSolverMultistepScheduler(), text_encoder=None, tokenizer=None
    )
    pipe.set_progress_bar_config(disable=True)
    mask = torch.ones(1, 5, dtype=torch.long)
    return pipe, {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": embeddings(1, 5, 32, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 32, seed=3),
        "prompt_attention_mask": mask,
        "negative_prompt_attention_mask": mask,
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "use_resolution_binning": False,
        "generator": generator(),
    }


def _flux(*, guidance_embeds: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=guidance_embeds,
    ).eval()
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(4, shift_factor=0.0),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _flux_arguments() -> dict[str, Any]:
    return {
        "prompt_embeds": embeddings(1, 5, 32, seed=2),
        "pooled_prompt_embeds": embeddings(1, 32, seed=4),
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def flux_true() -> Built:
    """Flux with true guidance: two calls, cond then uncond, packed tokens."""
    return _flux(guidance_embeds=False), _flux_arguments() | {
        "negative_prompt_embeds": embeddings(1, 5, 32, seed=3),
        "negative_pooled_prompt_embeds": embeddings(1, 32, seed=5),
        "true_cfg_scale": GUIDANCE,
    }


def flux_distilled() -> Built:
    """Flux, guidance-distilled: the scale is an input, there is one branch."""
    return _flux(guidance_embeds=True), _flux_arguments() | {"guidance_scale": 3.5}


def _wan_transformer(seed: int) -> Any:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(seed)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    ).eval()


def wan(*, experts: int = 1) -> Built:
    """Wan 2.1, or 2.2 with two experts: two calls, 5-D latents."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline

    torch.manual_seed(1)
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    pipe = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        transformer=_wan_transformer(0),
        transformer_2=_wan_transformer(5) if experts == 2 else None,
        boundary_ratio=0.8 if experts == 2 else None,
    )
    pipe.set_progress_bar_config(disable=True)
    more = {"guidance_scale_2": 3.0} if experts == 2 else {}
    return pipe, {
        "prompt_embeds": embeddings(1, 8, 32, seed=2),
        "negative_prompt_embeds": embeddings(1, 8, 32, seed=3),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "num_frames": 9,
        "output_type": "latent",
        "generator": generator(),
        **more,
    }


def wan22() -> Built:
    """Wan 2.2: two experts, each with a scale of its own."""
    return wan(experts=2)


def ltx() -> Built:
    """LTX-Video: packed video tokens."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=32,
    ).eval()
    vae = AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    pipe = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=None, tokenizer=None, transformer=transformer
    )
    pipe.set_progress_bar_config(disable=True)
    mask = torch.ones(1, 5, dtype=torch.bool)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 32, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 32, seed=3),
        "prompt_attention_mask": mask,
        "negative_prompt_attention_mask": mask,
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "height": 32,
        "width": 32,
        "num_frames": 9,
        "output_type": "latent",
        "generator": generator(),
    }


def cogvideox() -> Built:
    """CogVideoX: 5-D latents with frames before channels."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

    torch.manual_seed(0)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=32,
        num_layers=1,
        sample_width=2,
        sample_height=2,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
    ).eval()
    vae = AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    pipe = CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 16, 32, seed=2),
        "negative_prompt_embeds": embeddings(1, 16, 32, seed=3),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "num_frames": 8,
        "max_sequence_length": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def stable_audio() -> Built:
    """Stable Audio: one-dimensional latents, EDM preconditioning."""
    from diffusers import AutoencoderOobleck, EDMDPMSolverMultistepScheduler, StableAudioDiTModel, StableAudioPipeline
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    transformer = StableAudioDiTModel(
        sample_size=4,
        in_channels=3,
        num_layers=2,
        attention_head_dim=4,
        num_key_value_attention_heads=2,
        out_channels=3,
        cross_attention_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
        cross_attention_input_dim=4,
        num_attention_heads=2,
    ).eval()
    vae = AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[1, 2],
        decoder_channels=3,
        decoder_input_channels=3,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=4,
    )
    encoder = T5EncoderModel(T5Config(vocab_size=16, d_model=4, d_kv=2, d_ff=8, num_layers=1, num_heads=2)).eval()
    pipe = StableAudioPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=None,
        transformer=transformer,
        projection_model=StableAudioProjectionModel(text_encoder_dim=4, conditioning_dim=4, min_value=0, max_value=32),
        scheduler=EDMDPMSolverMultistepScheduler(prediction_type="v_prediction", sigma_data=1.0, sigma_max=80.0),
    )
    pipe.set_progress_bar_config(disable=True)
    mask = torch.ones(1, 5, dtype=torch.long)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 4, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 4, seed=3),
        "attention_mask": mask,
        "negative_attention_mask": mask,
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 4,
        "output_type": "latent",
        "generator": generator(),
    }


def ddpm() -> Built:
    """An unconditional pixel model."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    ).eval()
    pipe = DDPMPipeline(unet=unet, scheduler=DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe, {"num_inference_steps": 4, "output_type": "np", "generator": generator(), "batch_size": 2}


def modular_sdxl() -> Built:
    """Modular SDXL: the same network as two calls of one branch each, named by the guider."""
    from diffusers import ClassifierFreeGuidance, EulerDiscreteScheduler
    from diffusers.modular_pipelines.stable_diffusion_xl import StableDiffusionXLAutoBlocks

    blocks = StableDiffusionXLAutoBlocks()
    for name in ("text_encoder", "ip_adapter", "decode"):
        blocks.sub_blocks.pop(name, None)
    pipe = blocks.init_pipeline()
    pipe.update_components(
        unet=_sdxl_unet(), vae=_vae(), scheduler=EulerDiscreteScheduler(), guider=ClassifierFreeGuidance(GUIDANCE)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "pooled_prompt_embeds": embeddings(1, 8, seed=4),
        "negative_pooled_prompt_embeds": embeddings(1, 8, seed=5),
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "generator": generator(),
        "output": "latents",
    }


def inpaint() -> Built:
    """Inpainting with four channels: what is kept is put back after each step."""
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

    pipe = StableDiffusionInpaintPipeline(
        vae=_vae(),
        text_encoder=None,
        tokenizer=None,
        unet=_unet(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "guidance_scale": 5.0,
        "num_inference_steps": 4,
        "image": torch.rand(1, 3, 16, 16, generator=generator(7)),
        "mask_image": (torch.rand(1, 1, 16, 16, generator=generator(8)) > 0.5).float(),
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def controlnet() -> Built:
    """A side network beside the denoiser."""
    from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline

    torch.manual_seed(0)
    u = _unet()
    cn = ControlNetModel.from_unet(u, conditioning_embedding_out_channels=(4, 8))
    pipe = StableDiffusionControlNetPipeline(
        vae=_vae(),
        text_encoder=None,
        tokenizer=None,
        unet=u,
        controlnet=cn,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "guidance_scale": 5.0,
        "num_inference_steps": 4,
        "image": torch.rand(1, 3, 16, 16, generator=generator(7)),
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def ip2p() -> Built:
    """InstructPix2Pix: thirds, [text, image, uncond]."""
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline

    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=_vae(),
        text_encoder=None,
        tokenizer=None,
        unet=_unet(in_channels=8),
        scheduler=EulerAncestralDiscreteScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 4,
        "image": torch.rand(1, 3, 16, 16, generator=generator(7)),
        "output_type": "latent",
        "generator": generator(),
    }


def pag() -> Built:
    """Perturbed attention: thirds, [uncond, cond, perturbed]."""
    from diffusers import DDIMScheduler, StableDiffusionPAGPipeline

    pipe = StableDiffusionPAGPipeline(
        vae=_vae(),
        text_encoder=None,
        tokenizer=None,
        unet=_unet(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        pag_applied_layers="mid",
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "guidance_scale": 5.0,
        "pag_scale": 3.0,
        "num_inference_steps": 4,
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def sag(scheduler: Any = None) -> Built:
    """Self-attention guidance: [uncond, cond], then uncond once more at a state that is blurred."""
    from diffusers import StableDiffusionSAGPipeline

    pipe = _stable_diffusion(StableDiffusionSAGPipeline, _unet(), scheduler)
    _, arguments = sd15()
    return pipe, arguments | {"sag_scale": 0.75}


def rescale() -> Built:
    """Guidance rescale: not plain guidance."""
    pipe, a = sd15()
    return pipe, a | {"guidance_rescale": 0.7}


def slg() -> Built:
    """Skip-layer guidance: a third call in some steps."""
    pipe, a = sd3()
    return pipe, a | {"skip_guidance_layers": [1], "skip_layer_guidance_start": 0.1, "skip_layer_guidance_stop": 0.9}


def skyreels() -> Built:
    """Diffusion forcing: a copied scheduler for each frame."""
    from diffusers import (
        AutoencoderKLWan,
        SkyReelsV2DiffusionForcingPipeline,
        SkyReelsV2Transformer3DModel,
        UniPCMultistepScheduler,
    )

    torch.manual_seed(0)
    tr = SkyReelsV2Transformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    vae = AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    pipe = SkyReelsV2DiffusionForcingPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=tr,
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt": None,
        "prompt_embeds": embeddings(1, 8, 32, seed=2),
        "negative_prompt_embeds": embeddings(1, 8, 32, seed=3),
        "guidance_scale": 5.0,
        "num_inference_steps": 3,
        "height": 16,
        "width": 16,
        "num_frames": 9,
        "ar_step": 1,
        "causal_block_size": 1,
        "output_type": "latent",
        "generator": generator(),
    }


def zimage() -> Built:
    """Lists in and out, [cond, uncond], the sign flipped, weight s + 1."""
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    torch.manual_seed(0)
    tr = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        norm_eps=1e-5,
        qk_norm=True,
        cap_feat_dim=16,
        rope_theta=256.0,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    with torch.no_grad():
        for p in tr.parameters():
            if p.isnan().any() or p.abs().sum() == 0:
                p.normal_(0, 0.02)
        for n in ("x_pad_token", "cap_pad_token"):
            getattr(tr, n).normal_()
    pipe = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(16, shift_factor=0.0),
        text_encoder=None,
        tokenizer=None,
        transformer=tr,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": [embeddings(5, 16, seed=2)],
        "negative_prompt_embeds": [embeddings(5, 16, seed=3)],
        "guidance_scale": 5.0,
        "num_inference_steps": 3,
        "height": 32,
        "width": 32,
        "output_type": "latent",
        "generator": generator(),
    }


def svd() -> Built:
    """Stable Video Diffusion: 5-D latents with frames before channels, image latents beside them, a weight a frame."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=32,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    ).eval()
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
    )
    vision = CLIPVisionConfig(
        hidden_size=32, projection_dim=32, num_hidden_layers=1, num_attention_heads=4, image_size=32, patch_size=8,
        intermediate_size=37,
    )  # fmt: skip
    pipe = StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
            timestep_type="continuous", timestep_spacing="leading", use_karras_sigmas=True,
        ),
        feature_extractor=CLIPImageProcessor(crop_size=32, size=32),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "image": torch.rand(1, 3, 32, 32, generator=generator(7)),
        "num_frames": 3,
        "min_guidance_scale": 2.0,
        "max_guidance_scale": 5.0,
        "num_inference_steps": 3,
        "height": 32,
        "width": 32,
        "output_type": "latent",
        "generator": generator(),
    }


def panorama() -> Built:
    """Views of a wide picture: several calls and steps at one level, the scheduler's state put back for each."""
    from diffusers import DDIMScheduler, StableDiffusionPanoramaPipeline

    pipe = StableDiffusionPanoramaPipeline(
        vae=_vae(),
        text_encoder=None,
        tokenizer=None,
        unet=_unet(size=64),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 2,
        "height": 512,
        "width": 576,
        "output_type": "latent",
        "generator": generator(),
    }


PIPELINES: dict[str, Callable[[], Built]] = {
    "sd15": sd15,
    "sdxl": sdxl,
    "sd3": sd3,
    "dit": dit,
    "pixart": pixart,
    "flux_true": flux_true,
    "flux_distilled": flux_distilled,
    "wan21": wan,
    "wan22": wan22,
    "ltx": ltx,
    "cogvideox": cogvideox,
    "stable_audio": stable_audio,
    "ddpm": ddpm,
    "modular_sdxl": modular_sdxl,
}


ODD: dict[str, Callable[[], Built]] = {
    "inpaint": inpaint,
    "controlnet": controlnet,
    "ip2p": ip2p,
    "pag": pag,
    "sag": sag,
    "rescale": rescale,
    "slg": slg,
    "skyreels": skyreels,
    "zimage": zimage,
    "svd": svd,
    "panorama": panorama,
}


def animatediff() -> Built:
    """AnimateDiff: a doubled call [uncond, cond] of a video; with FreeInit its loop goes back up."""
    from diffusers import AnimateDiffPipeline, DDIMScheduler, MotionAdapter

    torch.manual_seed(0)
    adapter = MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_norm_num_groups=4,
        motion_num_attention_heads=4,
    )
    scheduler = DDIMScheduler(beta_schedule="linear", clip_sample=False)
    pipe = AnimateDiffPipeline(
        vae=_vae(), text_encoder=None, tokenizer=None, unet=_unet(), motion_adapter=adapter, scheduler=scheduler
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe, {
        "prompt_embeds": embeddings(1, 5, 16, seed=2),
        "negative_prompt_embeds": embeddings(1, 5, 16, seed=3),
        "guidance_scale": GUIDANCE,
        "num_inference_steps": 2,
        "num_frames": 2,
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "generator": generator(),
    }


def output_of(result: Any) -> torch.Tensor:
    """What a pipeline made, as a tensor."""
    if isinstance(result, torch.Tensor):
        return result
    for name in ("images", "frames", "audios"):
        if (value := getattr(result, name, None)) is not None:
            return torch.as_tensor(value)
    raise TypeError(type(result).__name__)
