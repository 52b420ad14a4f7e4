import torch


def test_image_and_a_map_for_each_label_come_out(game, patch):
    learner, _ = game("dcgan", patch)
    joint = learner.generator(torch.randn(3, 8), torch.zeros(3, 0))
    assert joint.shape == (3, 3, *learner.lesions.shape)
    assert joint.abs().max() <= 1


def test_nothing_is_asked_whatever_the_patches_condition_says(game):
    learner, batch = game("dcgan")
    for network, shown in (
        (learner.generator.eval(), torch.randn(6, 8)),
        (learner.discriminator.eval(), learner.joint(batch)),
    ):
        assert torch.equal(network(shown, torch.zeros(6, 5)), network(shown, torch.ones(6, 5)))
