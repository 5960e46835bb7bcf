"""DeblurGenerator as any other nn.Module: moved, cast, compiled, and sent to another process."""

import pytest
import torch
import torch.multiprocessing

from deblur_hub import DeblurGenerator, GeneratorConfig


def picture() -> torch.Tensor:
    return torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_moves_and_casts_as_a_whole_and_says_so(generator):
    assert generator.to(torch.float64) is generator
    assert generator(picture().double()).dtype == torch.float64
    assert {parameter.dtype for parameter in generator.half().parameters()} == {torch.float16}
    assert "float16 on cpu" in repr(generator)
    assert {parameter.device.type for parameter in generator.to("meta").parameters()} == {"meta"}
    assert repr(generator) == repr(generator.eval()) and "float16 on meta" in repr(generator)


def test_its_state_is_that_of_its_network_and_is_loaded_strictly(generator):
    state = generator.state_dict()
    assert set(state) == {f"network.{key}" for key in generator.network.state_dict()}
    other = DeblurGenerator(generator.config)
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    state.pop(next(iter(state)))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(state)


def test_its_configuration_builds_its_like(generator):
    assert generator.config == GeneratorConfig("compact", generator.config.options, "tiny")
    twin = DeblurGenerator(generator.config)
    assert {key: value.shape for key, value in twin.state_dict().items()} == {
        key: value.shape for key, value in generator.state_dict().items()
    }


def restore_elsewhere(generator: DeblurGenerator, blurred: torch.Tensor, answers) -> None:
    answers.put((repr(generator), generator.config, generator.training, generator.restore(blurred).numpy()))


@pytest.mark.slow
def test_a_spawned_process_gets_the_same_generator(generator):
    context = torch.multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=restore_elsewhere, args=(generator, picture(), answers))
    process.start()
    described, config, training, restored = answers.get(timeout=240)
    process.join(60)
    assert process.exitcode == 0
    assert (described, config, training) == (repr(generator), generator.config, False)
    assert torch.equal(torch.from_numpy(restored), generator.restore(picture()))


@pytest.mark.slow
def test_it_compiles_to_the_same_function(generator):
    compiled = torch.compile(generator, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(picture()), generator(picture()), atol=1e-4)
    compiled_in_place = DeblurGenerator(generator.config).eval()
    compiled_in_place.load_state_dict(generator.state_dict())
    compiled_in_place.compile(backend="eager")  # the code that is made is tried above
    with torch.no_grad():
        assert torch.allclose(compiled_in_place(picture()), generator(picture()), atol=1e-4)
    assert torch.allclose(compiled_in_place.restore(picture()), generator.restore(picture()), atol=1e-4)
