"""A Hugging Face causal LM, patched in place so that packed steps run through it. Nothing of its weights or names changes."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from seal.engine.agreement import agree, alike, asked, said_alone, said_beside, said_together
from seal.engine.attention import Cache, Near, Tiles, attend_short, packed, rotated, short, without_cudnn
from seal.engine.compact import Compact, compact
from seal.engine.fused import patch, unpatch
from seal.engine.head import Head
from seal.engine.heap import Ceiling
from seal.engine.layouts import AS_THEY_LIE, MOST, SMALL, Ahead, Back, Layout, quickest
from seal.engine.pack import Span, Step, pack
from seal.engine.place import OF_THE_DEVICE
from seal.engine.prepacked import can_prepack
from seal.engine.rectangle import OwnCache, rectangles
from seal.engine.routing import Backend, Product, Routes, Shares, choices, master, routed, share
from seal.engine.stack import Site
from seal.errors import UserError
from seal.types import ALL_LINEAR

_serial = itertools.count()
_LAYER = re.compile(r"\.(\d+)\.")
_UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices")
"""What some models hand to their attention beside queries, keys and values, and what changes its result."""
_PASSED_BY = {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
"""Families whose kernels read a layer's weights themselves; PEFT's own list, which it has inside a function."""
_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers, as configurations list them, whose tokens meet as the packed view has it."""


class Host:
    """Owns the patch: linear layers inside the decoder route tokens by slot, attention runs packed or over a cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Raises UserError, and leaves the model as it was, if packed rows do not say what the model says to each alone, or if it
        lies on several devices."""
        _refuse_spread(model)
        self.model = model
        self.device, self.dtype = model.device, model.dtype
        self.master = master(self.dtype)
        """Precision of adapters, gradients and optimiser states."""
        self.inner = _decoder(model)
        inside = set(self.inner.modules())  # without the vision tower, where the model has one
        self.linears = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward  # a router may have one of its own
            if module in inside and _LAYER.search(name) and not _refused_by_peft(model, name)
        }
        if not self.linears:
            raise UserError(f"{_name(model)} cannot be run here: none of its layers is an nn.Linear, which alone take adapters")
        self.packs = True
        """Whether a step's rows lie end to end; else the whole model sees them side by side, with pads."""
        self._takes = inspect.signature(self.inner.forward).parameters
        self._stopped: Exception | None = None
        """What a model's own code raised when it was asked last."""
        self._windows: set[int | None] = set()
        """Those that attention was told of."""
        self._nears: dict[int, Near] = {}
        self._real: Tensor | None = None
        """Where tokens stand among the places that layers see; None: there are no pads."""
        self.choices = choices(self.device, self.dtype)
        """Backends that were found quickest."""
        self._paths = {linear: path for path, linear in self.linears.items()}
        self._products = {
            path: Product(path, one.weight, one.bias, _columns([path], [one])) for path, one in self.linears.items()
        }
        """Of every linear layer, by its path; joined layers share one."""
        self._laid: Mapping[str, Product] = {}
        self._step: Step | None = None
        self._routes: Routes | None = None
        self.watch: Callable[[str, Tensor], None] | None = None
        """Told the input (N, in) of every product that is worked out, by its name."""
        self._ceiling: Ceiling | None = None
        self._shares: Shares | None = None
        self._longer: dict[int, Shares] = {}
        """The same for layers that see so many places for each token."""
        self._backends: dict[str, Backend] = {}
        self._cache: Cache | OwnCache | None = None
        self._tiles: dict[tuple[int, int], Tiles] = {}
        self._divides: dict[int, bool] = {0: False}
        self._anchor = torch.zeros(1, device=self.device, dtype=self.dtype, requires_grad=True)
        self._forwards = {module: vars(module)["forward"] for module in model.modules() if "forward" in vars(module)}
        """What somebody else had set on modules; accelerate does."""
        self._fused: list[nn.Module] = []
        self._compact: Compact | None = None
        """Decodes without the module tree, where that is known to say the same."""
        self._undo = ExitStack()
        """How what was done to the model is taken back."""
        try:
            self._patch()
        except BaseException:
            self.close()
            raise

    def _patch(self) -> None:
        """Makes the model run a step's rows end to end, or else side by side. Raises UserError if it then says something else."""
        model = self.model
        self._undo.callback(_flags(model))
        model.eval().requires_grad_(False)
        with without_cudnn():
            alone = said_alone(model)
        for path, linear in self.linears.items():
            linear.forward = self._linear(path)  # type: ignore[assignment, method-assign]
            self._undo.callback(self._unpatch, linear)
        self._undo.callback(self._unfuse)
        self.packs = self._pack(alone)
        if self.packs:
            self._fuse()
            self._compact = self._shorten()
        elif not self._agrees(alone, lambda: said_beside(model, self._read), each=True):
            why = "it says something else to several texts at once than to each alone, because its tokens look ahead or its"
            why += " logits are scaled in a way of its own"
            if self._stopped is not None:
                why = f"asked about several texts at once, its own code stops ({type(self._stopped).__name__}: {self._stopped})"
            raise UserError(
                f"{_name(model)} cannot be run here: {why}; take another model, docs/engine.md has the families that run"
            ) from self._stopped

    def _agrees(self, alone: Tensor, say: Callable[[], Tensor], *, each: bool = False) -> bool:
        """Whether several rows at once say what each says alone. After an error of the model's own code they do not."""
        self._stopped = None
        try:
            found = say()
        except (*OF_THE_DEVICE, MemoryError):
            raise
        except Exception as error:  # somebody else's code, which is asked in a way that it need not know
            if "allocate memory" in str(error):  # a CPU's is a RuntimeError like any other
                raise
            self._stopped = error
            return False
        return not bool(alone.isfinite().all()) or agree(found, alone, self.dtype, each=each)

    def _pack(self, alone: Tensor) -> bool:
        """Replaces the model's attention by one for packed rows. If they then say something else, or would in a longer text, as
        layers are told of windows or chunks by masks alone, attention is what it was."""
        model, name = self.model, f"seal_packed_{next(_serial)}"
        text = model.config.get_text_config()
        kinds = set(getattr(text, "layer_types", None) or ["sliding_attention"])
        slides = "sliding_attention" in kinds and getattr(text, "use_sliding_window", True)
        window = getattr(text, "sliding_window", None) if slides else None
        with ExitStack() as tried:
            tried.callback(ALL_ATTENTION_FUNCTIONS.pop, name)  # what stands there keeps the model in memory
            tried.callback(model.set_attn_implementation, model.config._attn_implementation)
            ALL_ATTENTION_FUNCTIONS[name] = self._attend
            model.set_attn_implementation(name)
            agrees = self._agrees(alone, lambda: said_together(model, self._read))
            if agrees and kinds <= _KNOWN_LAYERS and (window is None or window in self._windows):
                self._undo.callback(tried.pop_all().close)
                return True
        return False

    def _fuse(self) -> None:
        """Fused blocks wherever a module is known by its make, and none if the model then says something else."""
        step, head = pack(asked(self.model).tolist(), [None, None], device=self.device), Head(self.model)
        with torch.no_grad(), self.using(step, None):
            plain = head.logits(self.hidden())
            single = dict(self._products)
            for module in self.inner.modules():
                if patch(module, self):
                    self._fused.append(module)
            try:
                near = alike(head.logits(self.hidden()), plain, self.dtype)
            except OF_THE_DEVICE:
                raise
            except RuntimeError:  # a shape does not fit: rotary positions over a part of the head look like Llama's
                near = False
            if not near:
                self._unfuse()
                self._fused, self._products = [], single

    @torch.no_grad()
    def _shorten(self) -> Compact | None:
        """The compact decode step, if this model has one and it then says what the model itself does."""
        found = compact(self.inner, self._fused, lambda linear: self._multiply(self._products[self._paths[linear]]))
        if found is None:
            return None
        plain = said_together(self.model, self._read)
        self._compact = found
        return found if alike(said_together(self.model, self._read), plain, self.dtype) else None

    def _read(self, step: Step, cache: Cache | OwnCache | None) -> Tensor:
        with self.using(step, None, cache):
            return self.hidden()

    @torch.no_grad()
    def join(self, linears: Sequence[nn.Linear]) -> Callable[[Tensor], Tensor]:
        """These layers as one product: their weights become views of one matrix. Returns it with its adapters."""
        paths = [self._paths[linear] for linear in linears]
        weight, bias = torch.cat([linear.weight for linear in linears]), None
        if linears[0].bias is not None:
            bias = torch.cat([linear.bias for linear in linears])
        # tall only where every output is used elementwise: attention cuts up each token's outputs, which wants them together
        product = Product(paths[0], weight, bias, _columns(paths, linears), self.device.type == "cpu" and len(linears) == 2)
        for path, linear in zip(paths, linears, strict=True):
            columns = product.columns[path]
            linear.weight.data = weight[columns]
            if bias is not None:
                linear.bias.data = bias[columns]
            self._products[path] = product
        return self._multiply(product)

    @property
    def quicker(self) -> dict[str, bool]:
        """Whether it has fused blocks and a compact decode step: this model has them, and says the same with them."""
        return {"fused": bool(self._fused), "compact": self._compact is not None}

    def close(self) -> None:
        """The model as it was: what its modules do, whether they train, and which parameters take gradients."""
        self._undo.close()

    def _unpatch(self, module: nn.Module) -> None:
        unpatch(module, self._forwards.get(module))

    def _unfuse(self) -> None:
        """No fused blocks, and no weight shares its memory with another: files are saved by it."""
        for module in self._fused:
            self._unpatch(module)
        for path, linear in self.linears.items():
            if len(self._products[path].columns) > 1:
                for parameter in linear.parameters():
                    parameter.data = parameter.data.clone()

    def sites(self, targets: Iterable[str], layers: int | None = None) -> list[Site]:
        """The linear layers with these last names (`all-linear`: all), on the uppermost `layers` only, in the model's order.

        Raises UserError, naming it, for a target the model does not have.
        """
        known, wanted = {path.rpartition(".")[2] for path in self.linears}, set(targets)
        if missing := wanted - known - {ALL_LINEAR}:
            has = f"{', '.join(sorted(known))}; {ALL_LINEAR} is all of these"
            raise UserError(f"the model has no linear layer named {', '.join(sorted(missing))}; it has {has}")
        if ALL_LINEAR in wanted:
            wanted = known
        found = [self._site(path, linear) for path, linear in self.linears.items() if path.rpartition(".")[2] in wanted]
        depth = 1 + max(site.layer for site in found)
        return [site for site in found if layers is None or site.layer >= depth - layers]

    def _site(self, path: str, linear: nn.Linear) -> Site:
        product = self._products[path]
        layer = int(_LAYER.findall(path + ".")[0])
        return Site(path, linear.in_features, linear.out_features, layer, product.name, product.columns[path].start)

    @contextmanager
    def using(self, step: Step, routes: Routes | None, cache: Cache | OwnCache | None = None) -> Iterator[None]:
        """Within: the model's layers see this step."""
        try:
            self._step, self._routes, self._cache = step, routes, cache
            if self.packs or cache is not None:
                self._seat(step.spans, len(step.ids))
            with without_cudnn():
                yield
        finally:
            self._step, self._routes, self._shares, self._cache, self._tiles = None, None, None, None, {}
            self._backends, self._longer, self._nears, self._real = {}, {}, {}, None

    def _seat(self, spans: Sequence[Span], tokens: int) -> None:
        """Whose tokens pass through the layers from here on."""
        if self._routes is not None and spans:
            self._shares = share(spans, self._routes.scale, device=self.device, dtype=self.dtype)
            self._longer = {1: self._shares}
            self._backends = self._routes.backends(len(spans), tokens // len(spans))

    def _shared(self, places: int) -> Shares:
        """Whose places a layer sees; some run over all that a row has cached (DeepSeek's latents), as many for each row."""
        assert self._shares is not None
        assert self._routes is not None
        tokens = len(self._shares.scale)
        times, rest = divmod(places, tokens)
        if rest:
            raise RuntimeError(
                f"{_name(self.model)}: a layer sees {places} places of {tokens} tokens; nobody knows whose they are"
            )
        if times not in self._longer:
            spans = [Span(slot, start * times, end * times) for slot, start, end in self._shares.spans]
            self._longer[times] = share(spans, self._routes.scale, device=self.device, dtype=self.dtype)
        return self._longer[times]

    @property
    def reads_copies(self) -> bool:
        """Whether products read copies of their weights on the way forward."""
        return any(one.copy is not None for one in self._laid.values())

    @contextmanager
    def laid(self, layout: Layout) -> Iterator[None]:
        """Within: products read their weights laid out so; if copies were made further out, those. Weights must not change."""
        if self.reads_copies:
            yield
        else:
            with self.reading(self.copied(layout)):
                yield

    def copied(self, layout: Layout) -> Mapping[str, Product]:
        """Every product with the copies of its weight that the layout has, by its name; none where copies cannot be made."""
        if layout == AS_THEY_LIE or (layout.copies and not self.copy_bytes()):
            return {}
        return {one.name: layout.of(one) for one in self._each()}

    @contextmanager
    def reading(self, laid: Mapping[str, Product]) -> Iterator[None]:
        """Within: products are those that `copied` gave."""
        before, self._laid = self._laid, laid
        try:
            yield
        finally:  # one that outlasts what it began in leaves no copies of weights that may have changed
            self._laid = before if self._laid is laid else {}

    def layout(self, tokens: int, *, room: bool = True) -> Layout:
        """The quickest for training in steps of about so many tokens: measured here once, and kept with the backends' choices.

        `room`: whether there is memory for copies of the weights.
        """
        measured = self.device.type == "cpu" and self.dtype in (torch.float32, torch.bfloat16)
        products = self._each()
        if not measured or sum(one.weight.nbytes for one in products) < SMALL:
            return AS_THEY_LIE
        about = min(MOST, 1 << max(0, tokens - 1).bit_length())
        key = f"weights for {about} tokens" + ("" if room else ", no copies")
        possible = {", ".join(one): one for one in map(Layout._make, itertools.product(get_args(Ahead), get_args(Back)))}
        return possible[self.choices.kept(key, possible, lambda: ", ".join(quickest(products, about, room=room)))]

    @contextmanager
    def below(self, size: int) -> Iterator[None]:
        """Within, on a CPU: a training's products give the heap's free pages back when `size` more bytes have become resident."""
        self._ceiling = Ceiling(size) if self.device.type == "cpu" else None
        try:
            yield
        finally:
            self._ceiling = None

    def copy_bytes(self) -> int:
        """What one copy of the weights takes, the head's not counted; 0 where none is made."""
        return sum(one.weight.nbytes for one in self._each()) if can_prepack(self.device, self.dtype) else 0

    def _each(self) -> list[Product]:
        return list({one.name: one for one in self._products.values()}.values())

    def hidden(self, depth: int = 0, states: Tensor | None = None) -> Tensor:
        """Last hidden states (N, h) of the step in use. `states`: what `lower` gave for `depth`; the layers below are skipped."""
        step, cache = self._step, self._cache
        assert step is not None
        if not self.packs:
            return self._beside(step)
        if self._compact is not None and isinstance(cache, Cache) and not cache.unread:
            return self._compact(step.ids, step.positions, cache)
        if states is None:
            return self._forward(input_ids=step.ids[None])
        with self._only(slice(depth, None)):
            return self._forward(inputs_embeds=states[None])

    @torch.no_grad()
    def lower(self, depth: int) -> Tensor:
        """Hidden states (N, h) of the step in use below layer `depth`."""
        step = self._step
        assert step is not None
        with self._only(slice(depth), norm=False):
            return self._forward(input_ids=step.ids[None])

    def divides(self, depth: int) -> bool:
        """Whether the model gives the same bits when it is run in two parts: asked of the model itself, once a depth."""
        if not self.packs:
            return False
        if depth not in self._divides:
            step = pack([[1, 2, 3, 4, 5]], [None], device=self.device)
            with torch.no_grad(), self.using(step, None):
                listed = isinstance(getattr(self.inner, "layers", None), nn.ModuleList) and hasattr(self.inner, "norm")
                self._divides[depth] = listed and torch.equal(self.hidden(depth, self.lower(depth)), self.hidden())
        return self._divides[depth]

    def _forward(self, **tokens: Tensor) -> Tensor:
        assert self._step is not None
        positions = self._step.positions[None]
        return self.inner(**tokens, position_ids=positions, attention_mask=None, use_cache=False).last_hidden_state[0]

    def _beside(self, step: Step) -> Tensor:
        """Last hidden states (N, h) of a step whose rows the model sees side by side."""
        if isinstance(self._cache, OwnCache):
            return self._cache.read(self.inner, self._takes, step)
        found = []
        for one in rectangles(step):
            self._seat(one.spans, one.ids.numel())
            self._real = one.back
            told = {"attention_mask": one.mask, "position_ids": one.positions}
            said = self.inner(input_ids=one.ids, use_cache=False, **{name: told[name] for name in told if name in self._takes})
            found.append(said.last_hidden_state.flatten(0, 1).index_select(0, one.back))
        return torch.cat(found) if step.order is None else torch.cat(found).index_select(0, step.order.back)

    @contextmanager
    def _only(self, layers: slice, norm: bool = True) -> Iterator[None]:
        """Within: the model has these decoder layers only, and its last norm or none."""
        whole, last = self.inner.layers, self.inner.norm
        self.inner.layers = whole[layers]
        self.inner.norm = last if norm else nn.Identity()
        try:
            yield
        finally:
            self.inner.layers, self.inner.norm = whole, last

    def _linear(self, path: str) -> Callable[[Tensor], Tensor]:
        """What a linear layer does when the model calls it by itself."""
        multiply = self._multiply(self._products[path])
        return lambda x: multiply(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    def _multiply(self, product: Product) -> Callable[[Tensor], Tensor]:
        def multiply(x: Tensor) -> Tensor:
            own = self._laid.get(product.name, product)
            if self.watch is not None:
                self.watch(product.name, x if self._real is None else x.index_select(0, self._real))
            if self._ceiling is not None and torch.is_grad_enabled():
                self._ceiling.keep()
            if self._routes is None or self._shares is None or product.name not in self._routes.products:
                return routed(x, own, None, None, None, self._anchor)
            route, backend = self._routes.products[product.name], self._backends[product.name]
            return routed(x, own, route, self._shared(len(x)), backend, self._anchor)

        return multiply

    def attend(self, module: nn.Module, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary positions and attention of a fused block: qkv (N, H + 2 h, D); cos, sin (N, 1, D). Returns (N, H, D)."""
        step, scale = self._held(), float(getattr(module, "scaling"))  # noqa: B009
        heads = int(getattr(module.get_submodule("q_proj"), "out_features")) // qkv.shape[2]  # noqa: B009
        shared = (qkv.shape[1] - heads) // 2
        if qkv.requires_grad and short(step.groups, self.device):
            tiles = self._tiles.get((heads, shared)) or Tiles.of(step.groups, heads, shared)
            self._tiles[heads, shared] = tiles
            return attend_short(qkv, cos, sin, tiles, heads, scale)
        turned, v = qkv.split([heads + shared, shared], 1)
        turned = rotated(turned, cos, sin)
        q, k, v = (x.transpose(0, 1)[None] for x in (*turned.split([heads, shared], 1), v))
        return self._attend(module, q, k, v, None, scale)[0][0]

    def _attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """transformers' attention interface: query (1, H, N, D), key and value (1, h, N, D); returns (1, N, H, D).

        Raises ValueError for attention that the packed view does not know.
        """
        step, cache = self._held(), self._cache
        if unknown := [name for name in _UNKNOWN if kwargs.get(name) is not None]:
            raise ValueError(f"attention with {', '.join(unknown)}")
        window = kwargs.get("sliding_window")
        self._windows.add(window)
        q, k, v = query[0], key[0], value[0]
        if not isinstance(cache, Cache):
            return packed(q, k, v, step, scaling, self._near(window))[None], None
        layer = int(getattr(module, "layer_idx"))  # noqa: B009
        if not cache.unread:
            return cache.attend(layer, torch.cat([q, k, v]).transpose(0, 1), scaling, window)[None], None
        cache.fill(layer, k, v, step.groups[0])
        return packed(q, k, v, step, scaling, self._near(window))[None], None

    def _near(self, window: int | None) -> Near | None:
        """One mask for all layers with that window, which they keep for the way back."""
        return None if window is None else self._nears.setdefault(window, Near(window))

    def _held(self) -> Step:
        if self._step is None:
            raise RuntimeError("the model is held by a SEAL engine; close() the engine to use it by itself")
        return self._step


def _decoder(model: PreTrainedModel) -> PreTrainedModel:
    """What makes hidden states of tokens. Some models say that it is themselves."""
    found: PreTrainedModel = model.get_decoder()
    return found if found is not model else getattr(model, "model", model.base_model)


def _refused_by_peft(model: PreTrainedModel, name: str) -> bool:
    """Whether PEFT reads no adapter of this layer: the kernels of these families pass it by."""
    return model.config.get_text_config().model_type in _PASSED_BY and name.endswith(".out_proj")


def _name(model: PreTrainedModel) -> str:
    return f"model {model.name_or_path!r} ({type(model).__name__})"


def _flags(model: PreTrainedModel) -> Callable[[], None]:
    """What gives every module its `training` back, and every parameter its `requires_grad`."""
    training = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]

    def put_back() -> None:
        for module, was in training:
            module.training = was
        for parameter, was in wanted:
            parameter.requires_grad_(was)

    return put_back


def _refuse_spread(model: PreTrainedModel) -> None:
    """Raises UserError if the model's weights are not all in one place."""
    places = sorted({str(parameter.device) for parameter in model.parameters()})
    if len(places) > 1:
        raise UserError(
            f"{_name(model)} lies on several devices ({', '.join(places)}) and the engine trains on one; open it without"
            ' device_map="auto" and move it whole, model.to("cuda:0"), or take a model that fits one'
        )


def _columns(paths: Sequence[str], linears: Sequence[nn.Linear]) -> dict[str, slice]:
    ends = list(itertools.accumulate(linear.out_features for linear in linears))
    return {path: slice(end - one.out_features, end) for path, one, end in zip(paths, linears, ends, strict=True)}
