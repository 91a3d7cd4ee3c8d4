"""Clean training by hand."""

import torch

CARD = {"forward": 1, "parameter_backward": 1}
BATCHNORM_UPDATES = 1


def test_a_batch_is_one_descent_on_the_images_as_they_are(start, linear, tiny_batch):
    x, y = tiny_batch.x, tiny_batch.y
    expected = linear.layer.weight.detach() - 0.1 * linear.grad_w(x, y)
    report = start("clean", linear).run(tiny_batch)
    torch.testing.assert_close(linear.layer.weight.detach(), expected, atol=1e-6, rtol=0)
    assert torch.equal(report.x_adv, x)
