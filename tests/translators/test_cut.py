import copy

import pytest
import torch

from medgan.errors import ConfigError
from medgan.losses import patch_nce
from medgan.networks.outputs import centre_channel
from medgan.training.architecture import DiscriminatorConfig, GeneratorConfig, UNetConfig
from medgan.translators.cut import CUT, PatchProjections

DIMENSIONS = pytest.mark.parametrize("dimensions", ["2", "2.5", "3"])


@DIMENSIONS
def test_the_terms_are_those_of_the_paper(attached, make_batch, dimensions):
    translator = attached("cut", dimensions, nce=2.0, nce_identity=3.0, temperature=0.2, patches=20)
    batch = make_batch(translator)
    source, target = batch["source"], batch["target"]
    generator, judge, projections = (
        copy.deepcopy(translator.networks()[name].module)
        for name in ("to_target", "target_discriminator", "projections")
    )
    torch.manual_seed(5)
    terms = translator.training_step(batch)
    torch.manual_seed(5)
    with torch.no_grad():
        fake, same = generator(source), generator(target)
        real_scores, fake_scores = judge(centre_channel(target)), judge(fake)
        learnt = translator.target_discriminator(fake)  # the generator is judged by what has just learnt

        def contrast(image, translated):
            keys, queries = (generator.encode(each) for each in (image, translator.around(image, translated)))
            places = [torch.randperm(each[0, 0].numel())[:20] for each in keys]
            pairs = zip(projections(queries, places), projections(keys, places), strict=True)
            return torch.stack([patch_nce(query, key, 0.2) for query, key in pairs]).mean()

        expected = {
            "to_target": ((learnt - 1) ** 2).mean(),
            "nce": 2 * contrast(source, fake),
            "nce_identity": 3 * contrast(target, same),
            "target_discriminator": (((real_scores - 1) ** 2).mean() + (fake_scores**2).mean()) / 2,
        }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, msg=name, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 8), (6, 4, 3)], ids=["2d", "3d"])
def test_each_place_is_projected_by_its_maps_perceptron_to_length_one(shape):
    torch.manual_seed(0)
    maps = [torch.randn(2, 1, *shape), torch.randn(2, 5, *shape)]
    places = [torch.randperm(maps[0][0, 0].numel())[:7] for _ in maps]
    network = PatchProjections([1, 5], channels=16)
    for number, features in enumerate(network(maps, places)):
        assert features.shape == (2, 7, 16)
        torch.testing.assert_close(features.norm(dim=2), torch.ones(2, 7))
        for patch, place in enumerate(places[number]):
            index = torch.unravel_index(place, shape)
            raw = network.layers[number](maps[number][(1, slice(None), *index)])
            torch.testing.assert_close(features[1, patch], raw / raw.norm())


def test_the_projections_exist_before_the_first_batch_and_are_not_shipped(make_translator):
    translator = make_translator("cut")
    # Input, stem, one down-sampling, one residual block.
    assert [layer[0].in_features for layer in translator.projections.layers] == [1, 4, 8, 8]
    held = {id(parameter) for group in translator.generator_optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in translator.projections.parameters()} <= held
    assert translator.kept == ("to_target",)


def test_a_translation_is_contrasted_and_the_input_does_not_learn_to_resemble_it(attached, make_batch):
    translator = attached("cut")
    image = make_batch(translator)["source"]
    with torch.no_grad():  # one that keeps every place contrasts better than one that moves them
        kept, moved = (float(translator.contrast(image, each)) for each in (image, image.roll(5, dims=2)))
    assert kept < moved
    fake = torch.randn_like(image.requires_grad_()).requires_grad_()
    translator.contrast(image, fake).backward()
    assert image.grad is None
    assert fake.grad.abs().sum() > 0


def test_a_generator_whose_encoder_is_not_shown_is_refused(make_translator):
    translator = make_translator("cut")
    parts = {"pair": translator.pair, "patch": translator.patch, "discriminator": DiscriminatorConfig(channels=4)}
    with pytest.raises(ConfigError, match=r"set generator.network.kind=resnet"):
        CUT(translator.config, generator=GeneratorConfig(network=UNetConfig(channels=4, downs=3)), **parts)
