"""The verb `build_engines`: an exported graph in, TensorRT engines out.

model.engine             for the GPUs that the builder chooses, or
model-sm80.engine ...    one for each requested generation
engine.json              what built it from what: versions, inputs, sha256 of graph and engines
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from finegates_export.common.files import check_destination, sha256_file, staged_file, staged_folder, write_json
from finegates_export.common.input_profile import LONGEST, PROFILES_JSON, InputSizes, Profile
from finegates_export.common.shapes import Shape
from finegates_export.deploy.engines.builders import capability, failed, find_builder, make_logger, refused
from finegates_export.deploy.engines.options import EngineOptions
from finegates_export.deploy.engines.source import Source, find_source

if TYPE_CHECKING:
    from tensorrt import IBuilderConfig, INetworkDefinition, ITimingCache

ENGINE_JSON = "engine.json"
NO_CHOICE = "the GPUs it chooses"
MIB = 1 << 20


@dataclass(frozen=True)
class EngineReport:
    """The result of a build."""

    builder: str
    version: str
    graph_sha256: str
    inputs: InputSizes
    """Smallest, usual and largest sizes of every input."""
    engines: dict[str, str]
    """sha256 by file."""

    def to_json(self) -> dict[str, object]:
        """As JSON types."""
        return dict(self.__dict__)

    def __str__(self) -> str:
        sizes = "\n".join(
            f"{name}: {' to '.join('x'.join(map(str, three[key])) for key in ('min', 'opt', 'max'))}"
            for name, three in self.inputs.items()
        )
        return f"{self.builder} {self.version}\n{sizes}\n{', '.join(self.engines)}"


def build_engines(options: EngineOptions) -> EngineReport:
    """Parse a graph and build an engine for every requested GPU generation.

    Args:
        options: the build.

    Raises:
        EngineError: the parser or the builder refuses the graph; the message names the node.
        InputError: no graph is found, or a GPU generation is unknown.
        MissingExtraError: no builder is installed.
        OutputError: the folder cannot be written.
        ValueError: the smallest, usual and largest inputs do not ascend.
    """
    check_destination(options.out, overwrite=options.overwrite, marks=(ENGINE_JSON,), reads=(options.model,))
    source = find_source(options.model, quantized=options.quantized)
    profile = _profile(options, source)
    name, trt = find_builder(options.builder)
    built: dict[str, str] = {}
    inputs: InputSizes = {}
    with staged_folder(options.out, overwrite=options.overwrite, marks=(ENGINE_JSON,)) as folder:
        for wanted in options.compute_capability or ("",):
            file = f"{source.graph.stem}{'-' if wanted else ''}{wanted}.engine"
            inputs = _Build(trt, options, source.graph, profile).write(wanted, folder / file)
            built[file] = sha256_file(folder / file)
        report = EngineReport(name, trt.__version__, sha256_file(source.graph), inputs, built)
        write_json(folder / ENGINE_JSON, report.to_json())
    return report


class _Build:
    """The build of one engine."""

    def __init__(self, trt: ModuleType, options: EngineOptions, graph: Path, profile: Profile) -> None:
        self.trt, self.options, self.graph, self.profile = trt, options, graph, profile
        self.logger = make_logger(trt)
        self.builder = trt.Builder(self.logger)

    def write(self, wanted: str, path: Path) -> InputSizes:
        """Build for a GPU generation, or for the builder's choice if none is named; returns the inputs' sizes."""
        network = self._parsed()
        config = self._config()
        declared = {one.name: tuple(one.shape) for one in map(network.get_input, range(network.num_inputs))}
        profile = self.builder.create_optimization_profile()
        for name, sizes in declared.items():
            profile.set_shape(name, *self.profile.sizes(sizes))
        config.add_optimization_profile(profile)
        if wanted:
            config.num_compute_capabilities = 1
            config.set_compute_capability(capability(self.trt, wanted), 0)
        cache = self._timing_cache(config)
        engine = self.builder.build_serialized_network(network, config)
        if engine is None:
            raise failed(self.logger.errors, str(self.graph), wanted or NO_CHOICE)
        path.write_bytes(engine)
        if cache is not None and self.options.timing_cache is not None:
            with staged_file(self.options.timing_cache, overwrite=True) as stage:
                stage.write_bytes(config.get_timing_cache().serialize())
        return self.profile.to_json(declared)

    def _parsed(self) -> INetworkDefinition:
        # The file decides on precision: types are the graph's own.
        flags = 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = self.builder.create_network(flags)
        parser = self.trt.OnnxParser(network, self.logger)
        if not parser.parse_from_file(str(self.graph)):
            raise refused(parser, str(self.graph))
        return network

    def _config(self) -> IBuilderConfig:
        config = self.builder.create_builder_config()
        config.builder_optimization_level = self.options.level
        if self.options.workspace:
            config.set_memory_pool_limit(self.trt.MemoryPoolType.WORKSPACE, self.options.workspace * MIB)
        return config

    def _timing_cache(self, config: IBuilderConfig) -> ITimingCache | None:
        path = self.options.timing_cache
        if path is None:
            return None
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
        return cache


def _profile(options: EngineOptions, source: Source) -> Profile:
    bundled = source.folder / PROFILES_JSON if source.folder else None
    known = Profile.read(bundled) if bundled and bundled.is_file() else Profile.up_to(source.max_length or LONGEST)
    chosen = (options.smallest, options.usual, options.largest)
    defaults = (known.smallest, known.usual, known.largest)
    return Profile(*(Shape.parse(text) if text else default for text, default in zip(chosen, defaults, strict=True)))
