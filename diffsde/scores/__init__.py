r"""Scores: what is learned or known about the data.

This folder may import `solvers` and the folders below it, so that a model can draw samples.

    model            a network with its SDE: a score and a denoiser
    drawing          what everyone does with a score: its problems, and samples
    usual            what samples are drawn with if nobody says otherwise
    labels           class labels of a batch
    preconditioning  what a network is given, and what its output means
    networks         networks by name
    score_unet       the tutorial's network
    residual_unet    a small residual network for any preconditioning
    wrapped          models without DataParallel, torch.compile and adapters around their networks
    precision        a network evaluated in several precisions
    score_matching   the loss by which a network learns the score
    checkpoint       models in files
    exact            data whose score is known in closed form
    guidance         the score of a class, or one pushed away from a weaker one
    tempering        the score of the data at another temperature
    observations     the score of images of which something has been seen
    guided           what all of these have in common
    denoisers        denoisers D(y, σ) as scores, and scores as denoisers
    azula            the same for models of azula
    diffusers        the same for models of diffusers
    velocity         velocities of flow matching as scores
    discrete         networks that are told the step of a discrete schedule
    noise_prediction the noise that a network of DDPM predicts, as a score
    schedulers       what a scheduler of diffusers says of a network
    pipeline_network a network of diffusers, called as ours are
    pipelines        whole pipelines of diffusers, from their folders
    pipeline_files   the files in such a folder, read without trust
    autoencoders     from the latents of a pipeline to images
    hub              models on the Hugging Face hub
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
