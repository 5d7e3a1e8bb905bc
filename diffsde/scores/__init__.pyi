from .checkpoint import (
    PRETRAINED as PRETRAINED,
)
from .checkpoint import (
    load_model as load_model,
)
from .checkpoint import (
    load_pretrained as load_pretrained,
)
from .checkpoint import (
    save_model as save_model,
)
from .guidance import (
    classifier_free as classifier_free,
)
from .guidance import (
    classifier_guided as classifier_guided,
)
from .guidance import (
    deblurring as deblurring,
)
from .guidance import (
    inpainting as inpainting,
)
from .guidance import (
    linear_inverse as linear_inverse,
)
from .guidance import (
    super_resolution as super_resolution,
)
from .interchange import (
    DenoiserScore as DenoiserScore,
)
from .interchange import (
    from_azula as from_azula,
)
from .interchange import (
    from_denoiser as from_denoiser,
)
from .interchange import (
    from_diffusers as from_diffusers,
)
from .interchange import (
    to_azula as to_azula,
)
from .interchange import (
    to_denoiser as to_denoiser,
)
from .interchange import (
    to_diffusers as to_diffusers,
)
from .model import (
    GaussianScore as GaussianScore,
)
from .model import (
    MixtureScore as MixtureScore,
)
from .model import (
    ScoreModel as ScoreModel,
)
from .model import (
    score_matching_loss as score_matching_loss,
)
from .networks import (
    NETWORKS as NETWORKS,
)
from .networks import (
    FourierFeatures as FourierFeatures,
)
from .networks import (
    PixelWaves as PixelWaves,
)
from .networks import (
    ResidualUNet as ResidualUNet,
)
from .networks import (
    ScoreUNet as ScoreUNet,
)
from .networks import (
    make_network as make_network,
)
from .precision import ByNoiseLevel as ByNoiseLevel
from .precision import Way as Way
from .preconditioning import (
    EDM as EDM,
)
from .preconditioning import (
    PRECONDITIONINGS as PRECONDITIONINGS,
)
from .preconditioning import (
    DenoisedPrediction as DenoisedPrediction,
)
from .preconditioning import (
    NoisePrediction as NoisePrediction,
)
from .preconditioning import (
    Preconditioning as Preconditioning,
)
from .preconditioning import (
    ScorePrediction as ScorePrediction,
)
from .preconditioning import (
    VelocityPrediction as VelocityPrediction,
)
