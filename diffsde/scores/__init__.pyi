from .azula import from_azula as from_azula, to_azula as to_azula
from .checkpoint import (
    PRETRAINED as PRETRAINED,
    load_model as load_model,
    load_pretrained as load_pretrained,
    save_model as save_model,
)
from .denoisers import (
    DenoiserScore as DenoiserScore,
    from_denoiser as from_denoiser,
    to_denoiser as to_denoiser,
)
from .diffusers import from_diffusers as from_diffusers, to_diffusers as to_diffusers
from .exact import GaussianScore as GaussianScore, MixtureScore as MixtureScore
from .guidance import (
    autoguidance as autoguidance,
    classifier_free as classifier_free,
    classifier_guided as classifier_guided,
)
from .level_unet import LevelUNet as LevelUNet
from .model import ScoreModel as ScoreModel
from .networks import NETWORKS as NETWORKS, make_network as make_network
from .noise_prediction import from_noise_prediction as from_noise_prediction
from .observations import (
    deblurring as deblurring,
    inpainting as inpainting,
    linear_inverse as linear_inverse,
    super_resolution as super_resolution,
)
from .precision import ByNoiseLevel as ByNoiseLevel, Way as Way
from .preconditioning import (
    EDM as EDM,
    PRECONDITIONINGS as PRECONDITIONINGS,
    CoupledFlowPrediction as CoupledFlowPrediction,
    DenoisedPrediction as DenoisedPrediction,
    FlowPrediction as FlowPrediction,
    NoisePrediction as NoisePrediction,
    Preconditioning as Preconditioning,
    ScorePrediction as ScorePrediction,
    VelocityPrediction as VelocityPrediction,
)
from .residual_layers import PixelWaves as PixelWaves
from .residual_unet import ResidualUNet as ResidualUNet
from .score_matching import score_matching_loss as score_matching_loss
from .score_unet import FourierFeatures as FourierFeatures, ScoreUNet as ScoreUNet
from .tempering import tempered as tempered
from .velocity import VelocityScore as VelocityScore, from_velocity as from_velocity
