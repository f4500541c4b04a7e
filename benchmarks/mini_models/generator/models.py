"""The networks of the generator, from diffusers: autoencoder, denoiser and noise schedule."""

from typing import Any

LATENT_CHANNELS = 12
_TEXT_WIDTH = 128


def new_autoencoder() -> Any:
    """32 x 32 pictures to 8 x 8 latents and back; 0.2 M parameters, nearly all in the decoder."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(0, 0, 1),
        num_decoder_blocks=(2, 1, 1),
        latent_channels=LATENT_CHANNELS,
    )


def new_denoiser() -> Any:
    """A U-Net over the latents that sees the prompt twice: word by word in attention, pooled beside the timestep.

    Attention alone is not enough for a network this small: it comes to ignore the prompt.
    """
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=4,
        cross_attention_dim=_TEXT_WIDTH,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def new_scheduler() -> Any:
    """DPM-Solver++ over a cosine schedule; the denoiser predicts the clean latents."""
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        steps_offset=1,  # without effect on this spacing; diffusers warns of 0
    )
