"""Addresses, latents and the ways between them."""

import numpy as np
import pytest

from serving.engine.latents import Address, address_range, latents, lerp, mix_styles, slerp, truncation

TOP = 2**64 - 1


@pytest.mark.parametrize(
    ("address", "beginning"),
    [
        (Address(7, 0), [-0.293339, 1.7038306, 1.5391918]),
        (Address(TOP, 2**63), [0.03273146, 0.47856092, 1.4081836]),
    ],
)
def test_an_address_means_the_same_latent_for_ever(address: Address, beginning: list[float]):
    np.testing.assert_allclose(latents([address], 3)[0], beginning, rtol=1e-6)


def test_a_latent_depends_on_its_address_alone():
    addresses = [Address(seed, index) for seed in (0, 7, TOP) for index in (0, 1, TOP)]
    together = latents(addresses, 100)
    assert together.dtype == np.float32 and together.shape == (9, 100)
    for row, address in zip(together, addresses, strict=True):
        np.testing.assert_array_equal(latents([address], 100)[0], row)
    assert len({row.tobytes() for row in together}) == 9


def test_latents_are_standard_normal():
    z = latents(address_range(3, 0, 2000), 100)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert abs(np.corrcoef(z[:-1].ravel(), z[1:].ravel())[0, 1]) < 0.01  # neighbours have nothing in common


def test_address_range_reaches_the_last_index_and_no_further():
    assert address_range(5, TOP - 1, 2) == [Address(5, TOP - 1), Address(5, TOP)]
    with pytest.raises(ValueError, match=rf"`start` \(={TOP}\) must be between 0 and {TOP - 1}"):
        address_range(5, TOP, 2)
    with pytest.raises(ValueError, match="`seed`"):
        address_range(TOP + 1, 0, 1)


@pytest.mark.parametrize("between", [lerp, slerp])
def test_both_ends_are_exact(between):
    a, b = latents(address_range(1, 0, 2), 64)
    a[0] = -0.0
    assert between(a, b, 0).tobytes() == a.tobytes()
    assert between(a, b, 1).tobytes() == b.tobytes()
    assert between(a, b, 0.5).dtype == np.float32


def test_slerp_turns_evenly_and_keeps_the_norm():
    a, b = latents(address_range(1, 0, 2), 512)
    path = np.stack([slerp(a, b, t) for t in np.linspace(0, 1, 9)])
    norms = np.linalg.norm(path, axis=1)
    np.testing.assert_allclose(norms, np.linspace(norms[0], norms[-1], 9), rtol=1e-5)
    unit = path / norms[:, None]
    turns = np.arccos(np.sum(unit[1:] * unit[:-1], axis=1))
    np.testing.assert_allclose(turns, turns[0], rtol=1e-4)
    assert np.linalg.norm(lerp(a, b, 0.5)) < 0.8 * norms[4]  # the short vector that slerp avoids


def test_slerp_is_defined_where_there_is_no_circle():
    a = latents([Address(1, 0)], 8)[0]
    np.testing.assert_allclose(slerp(a, a, 0.3), a, rtol=1e-6)
    np.testing.assert_allclose(slerp(a, 2 * a, 0.5), 1.5 * a, rtol=1e-6)
    np.testing.assert_allclose(slerp(a, -a, 0.25), 0.5 * a, rtol=1e-6)
    assert np.isfinite(slerp(a, np.zeros_like(a), 0.5)).all()


def test_slerp_goes_over_the_last_axis():
    z = latents(address_range(1, 0, 6), 8).reshape(2, 3, 8)
    np.testing.assert_array_equal(slerp(z[0], z[1], 0.3)[1], slerp(z[0, 1], z[1, 1], 0.3))


def test_truncation_holds_before_the_cutoff():
    np.testing.assert_array_equal(truncation(0.5, 4), np.full(4, 0.5))
    np.testing.assert_array_equal(truncation(0.5, 4, cutoff=1), [0.5, 1, 1, 1])
    np.testing.assert_array_equal(truncation(0.5, 4, cutoff=0), [1, 1, 1, 1])


def test_mix_styles_takes_the_named_layers_from_the_column():
    rows = np.arange(2)[:, None, None] + np.zeros((2, 3, 4), np.float32)
    columns = 10 + np.arange(3)[:, None, None] + np.zeros((3, 3, 4), np.float32)
    w = mix_styles(rows, columns, [0, 2])
    assert w[:, :, 0].tolist() == [[c, r, c] for r in (0, 1) for c in (10, 11, 12)]
    assert rows.max() == 1  # the sources are left as they were
