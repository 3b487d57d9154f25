"""Every hyper-parameter of the demo model and of its training, in one place."""

SEED = 20240607
TIME = 1.0  # all durations below times this (train.py --time)

# Widths; what the checkpoint's `latentd.test_config` metadata says (shared layout: SD1.5's).
UNET = {"model_channels": 64, "channel_mult": [1, 1, 2, 1], "num_heads": 2, "context_dim": 64}
VAE = {"ch": 64, "ch_mult": [1, 1, 1, 1]}  # 32 channels would make 32 groups an instance norm
CLIP = {"layers": 4, "heads": 2, "width": 64, "intermediate": 256}
LATENT_SCALE = 0.18215
BETAS = (0.00085, 0.012)  # scaled linear: their square roots are linear
STEPS = 1000

# (input side, batch, seconds on two cores), one learning rate from the peak down to nothing
VAE_PHASES = ((48, 3, 530), (64, 4, 200), (128, 2, 100))
VAE_RATE = 8e-4
VAE_KL = 2e-4
VAE_EDGE = 1.0  # weight of the loss on differences of neighbouring pixels
VAE_COLOUR = 1.5  # weight of the loss on the mean colours of 8x8 blocks
VAE_PICTURES = 3000

# Latent sets: name -> (pictures, height, width). Phases: seconds on two cores, learning rates from
# and to, the sets with (share, batch of one process), decay of the averaged weights, and the share
# of timesteps drawn from HIGH_FROM on, beyond an even spread. There the colours of the whole
# picture are decided, and an error of the predicted noise counts least in the plain loss though it
# moves the picture most; so phases with such a share weigh it by min(1 / snr, HIGH_CAP). Too large
# a share forgets outlines.
SETS = {"small": (5000, 128, 128), "whole": (1400, 256, 256), "tall": (120, 320, 192),
        "wide": (120, 192, 320)}
PHASES = (
    (1575, 1.5e-3, 7e-4, {"small": (1.0, 32)}, 0.997, 0),
    (2170, 9e-4, 1e-5, {"small": (0.18, 24), "whole": (0.64, 8), "tall": (0.09, 8),
                        "wide": (0.09, 8)}, 0.997, 0),
    (480, 4e-4, 1e-5, {"small": (0.30, 24), "whole": (0.54, 8), "tall": (0.08, 8),
                       "wide": (0.08, 8)}, 0.99, 0.75),
    (2400, 6e-4, 1e-5, {"small": (0.20, 24), "whole": (0.60, 8), "tall": (0.10, 8),
                        "wide": (0.10, 8)}, 0.998, 0.4),
    (1400, 5e-4, 1e-5, {"small": (0.15, 24), "whole": (0.69, 8), "tall": (0.08, 8),
                        "wide": (0.08, 8)}, 0.998, 0.25),
)
HARD_SUBJECTS = {"cat": 3.0, "fish": 3.0}  # how much more often these are drawn than others
EMPTY_PROMPTS = 0.1
UNKNOWN_WORDS = 0.06  # share of prompts with a random word, which the model learns to ignore
SNR_GAMMA = 5.0
HIGH_FROM, HIGH_CAP = 550, 25.0

# Adapters: name -> (kind, look of restyle.py, rank, seconds, learning rate, layers).
TRANSFORMERS = r"transformer_blocks|proj_in|proj_out"
STYLES_TRAINED = {
    "demo-sketch": ("LowRank", "sketch", 8, 90, 8e-3, TRANSFORMERS),
    "demo-golden": ("Dora", "golden", 4, 70, 8e-3, TRANSFORMERS),
}
STYLE_SIDE = 192
STYLE_BATCH = 12
STYLE_PICTURES = 160
NEGATIVE_PICTURES = 96
NEGATIVE_SECONDS = 30
# The LoRA for few steps: on what Hyper-SD's carry, every layer of the denoiser's blocks.
FEW_LAYERS = r"blocks?\..*(to_[qkv]|to_out\.0|proj_in|proj_out|net\.0\.proj|net\.2|in_layers\.2|" \
             r"out_layers\.3|skip_connection|emb_layers\.1|\.op|\.conv)$"
FEW_RANK = 8
FEW_SETS = {"small": (0.6, 6), "whole": (0.4, 4)}
FEW_BATCH = 6
FEW_TEACHER_STEPS = 2
FEW_SECONDS = 420
FEW_RATE = 2e-3

# The ControlNet (train_control.py): sets as above, of scenes of its own; phases: seconds on one core
# without bfloat16, learning rates from and to, sets with (share, pictures of a batch), decay.
CONTROL_SETS = {"small": (1200, 128, 128), "whole": (240, 256, 256), "wide": (80, 192, 256),
                "tall": (80, 256, 192)}
CONTROL_PHASES = (
    (600, 1.2e-3, 6e-4, {"small": (1.0, 6)}, 0.98),
    (900, 8e-4, 1e-5, {"small": (0.30, 6), "whole": (0.40, 2), "wide": (0.15, 3),
                       "tall": (0.15, 3)}, 0.98),
)
CONTROL_NOISES = 2  # noises of each picture of a batch: its hint is looked at once
CONTROL_HIGH = 0.35  # as in PHASES
CONTROL_NO_HINT = 0.05
CONTROL_EMPTY_PROMPTS, CONTROL_WRONG_PROMPTS = 0.35, 0.35  # nothing said; another layout said
CONTROL_SPOILT = 0.1  # pictures of bad quality, whose hints are those of the good ones

# The decoder alone, at the end: (crop side, batch of one process, seconds, learning rate).
DECODER_PHASES = ((128, 1, 240, 6e-4),)
DECODER_NOISE = 0.04

# The small TIPO (tipo_train.py): a LLaMA, and how many tags and sentences a class of length has.
TIPO = {"hidden": 128, "mlp": 320, "layers": 3, "heads": 4, "context": 1024, "eps": 1e-5,
        "theta": 10000.0}
TIPO_TAGS = {"very_short": (3, 4), "short": (4, 6), "long": (6, 8), "very_long": (8, 12)}
TIPO_SENTENCES = {"very_short": (1, 1), "short": (1, 2), "long": (2, 3), "very_long": (3, 5)}
TIPO_MERGES = 256  # pieces of the vocabulary beyond bytes, single characters and control tokens
TIPO_VOCABULARY_SAMPLES = 6000
TIPO_STEPS = 3000
TIPO_BATCH = 48
TIPO_RATE = 3e-3
TIPO_DECAY = 0.995  # of the averaged weights
