"""`track`: makes a flow's function a tracked one. Its first act is the claim, its last the publication.

    @flow
    @track.training
    def train(run: RunContext, lookback_d: int = 252) -> TrainingMetrics: ...

The decorator takes `run` out of the signature and adds Freshline's own parameters, typed and described: that is what
people see in Prefect's run form.
"""

import functools
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from typing import Any, Literal, NoReturn

from ..deployments.gateway import FlowRunFacts
from ..runs.composition import flow_port
from ..runs.execution import Claim
from ..runs.port import RunPort
from ..runs.request import RunRequest
from ..runs.status import RunStatus
from ..storage.errors import FreshlineError
from ..storage.ids import show_run_id
from ..storage.words import DeploymentKind
from .context import RunContext, RunIdentity
from .lease import Lease, RunCancelled

Function = Callable[..., Any]

_ADDED: Mapping[str, tuple[Any, Any, str]] = {
    "update_mode": (
        Literal["incremental", "full"],
        "incremental",
        "Bring only what is new, or everything.",
    ),
    "if_ready": (
        Literal["run", "skip"] | None,
        None,
        "What to do when the result is ready already; empty: the deployment's default.",
    ),
    "on_stale": (
        Literal["refuse", "wait", "refresh", "force"] | None,
        None,
        "What to do when an upstream is not ready; empty: the deployment's default.",
    ),
    "data_as_of": (
        date | None,
        None,
        "A data date: nothing later is read.",
    ),
}
"""Name -> (type, default, description) of the parameters that are added."""


class Track:
    """The decorators, one per deployment kind."""

    def __init__(self, kind: DeploymentKind) -> None:
        self._kind = kind

    def __call__(self, function: Function | None = None, *, rename: Mapping[str, str] | None = None) -> Any:
        """Decorate a flow's function; `rename` gives one of the added parameters another name.

        Raises:
            TypeError: the function has no parameter `run`, or one of its own clashes with an added one.
        """
        if function is None:
            return functools.partial(self.__call__, rename=rename)
        return _tracked(function, self._kind, dict(rename or {}))


class _Tracks:
    """`track.<kind>` for each deployment kind."""

    refresh = Track(DeploymentKind.REFRESH)
    preview = Track(DeploymentKind.PREVIEW)
    training = Track(DeploymentKind.TRAINING)
    inference = Track(DeploymentKind.INFERENCE)
    monitoring = Track(DeploymentKind.MONITORING)
    optimize = Track(DeploymentKind.OPTIMIZE)
    backtest = Track(DeploymentKind.BACKTEST)


track = _Tracks()


def _tracked(function: Function, kind: DeploymentKind, rename: Mapping[str, str]) -> Function:
    names = {rename.get(name, name): name for name in _ADDED}
    signature = _signature(function, names)

    def split(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the body's own arguments; Freshline's were recorded when the run was, and come with the claim."""
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name not in names}

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            attempt = Attempt.begin()
            if attempt.ended is not None:
                return attempt.ended
            body: Awaitable[Any] = function(attempt.context, **split(args, kwargs))
            with attempt:
                attempt.returned = await body
            return attempt.outcome()

        wrapper: Function = run_async
    else:

        @functools.wraps(function)
        def run_sync(*args: Any, **kwargs: Any) -> Any:
            attempt = Attempt.begin()
            if attempt.ended is not None:
                return attempt.ended
            with attempt:
                attempt.returned = function(attempt.context, **split(args, kwargs))
            return attempt.outcome()

        wrapper = run_sync

    wrapper.__signature__ = signature  # type: ignore[attr-defined]  # what inspect and Prefect look at
    wrapper.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    wrapper.__doc__ = _documented(function.__doc__, names)
    wrapper.__freshline_kind__ = kind  # type: ignore[attr-defined]  # the catalogue compares it with `runs:`
    wrapper.__freshline_names__ = dict(names)  # type: ignore[attr-defined]  # registered with the deployment
    wrapper.__freshline_body__ = function  # type: ignore[attr-defined]  # for tests without a server
    return wrapper


class Attempt:
    """One start of a body: from the claim to the publication, as a context around the body."""

    def __init__(self, port: RunPort, flow_run: FlowRunFacts, claim: Claim, ended: Any = None) -> None:
        self.ended = ended
        """The state to return to Prefect when the body must not start."""
        self.returned: Any = None
        self._port = port
        self._flow_run = flow_run
        self._run = claim.run
        self._cancelled = False
        if ended is None:
            self._lease = Lease(self._beat, interval_s=port.heartbeat_s)
            self.context = RunContext(_identity(claim), port, self._lease)

    @classmethod
    def begin(cls) -> "Attempt":
        """Claim the run of the flow run that this thread executes.

        Raises:
            FreshlineError: there is none, or its deployment is not registered, or another store was reached.
        """
        port, flow_run = flow_port()
        if flow_run is None:
            raise FreshlineError(
                "a tracked flow runs as a flow run of a registered deployment; "
                "to try its body without one, use freshline.testing.run"
            )
        claim = port.claim(flow_run)
        if claim.may_start:
            return cls(port, flow_run, claim)
        if claim.run.status == RunStatus.WAITING:
            reason = claim.decision.reason if claim.decision is not None else "upstreams are not ready"
            port.suspend(flow_run, reason=reason)
        return cls(port, flow_run, claim, ended=_ended_state(claim))

    def __enter__(self) -> "Attempt":
        self._lease.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        run_id, fence = self._run.id, self._run.fence
        try:
            if isinstance(error, RunCancelled):
                self._port.acknowledge_cancel(run_id, fence)
                self._cancelled = True
                return True
            if error is None:
                try:
                    self._port.complete(run_id, fence, self.context.result(self.returned))
                except Exception as failure:
                    self._fail(failure)
                    raise
            elif isinstance(error, Exception):
                self._fail(error)
            elif _is_pause(error):
                self._port.pause(run_id, fence)
            return False
        finally:
            self._lease.__exit__()
            self.context.close()

    def outcome(self) -> Any:
        """Return what the flow returns to Prefect."""
        if self._cancelled:
            from prefect.states import Cancelled

            return Cancelled(message=f"{show_run_id(self._run.id)} was cancelled")
        return self.returned

    def _beat(self) -> bool:
        metrics = self.context.pending_metrics()
        if metrics:
            self._port.record(self._run.id, self._run.fence, metrics=metrics)
        return self._port.heartbeat(self._run.id, self._run.fence)

    def _fail(self, error: Exception) -> None:
        trace = "".join(traceback.format_exception(error))
        # Prefect counts how often it entered Running; within one process its count may be that of the start.
        starts = max(self._run.attempt, self._flow_run.run_count)
        will_retry = starts <= self._flow_run.retries
        self._port.fail(self._run.id, self._run.fence, error, trace, will_retry=will_retry)


def _is_pause(error: BaseException) -> bool:
    """True for the signal with which Prefect unwinds a flow that is suspended."""
    return type(error).__name__ == "Pause" and type(error).__module__.startswith("prefect.")


def _identity(claim: Claim) -> RunIdentity:
    request = RunRequest.model_validate(claim.run.request)
    return RunIdentity(
        id=claim.run.id,
        fence=claim.run.fence,
        deployment_id=claim.deployment.id,
        deployment=claim.deployment.key,
        kind=DeploymentKind(claim.deployment.kind),
        attempt=claim.run.attempt,
        update_mode=request.update_mode,
        data_as_of=request.data_as_of,
        base_version_id=claim.run.base_version_id,
        callables=claim.deployment.declaration.get("callables", {}),
    )


def _ended_state(claim: Claim) -> Any:
    """Return the Prefect state of a run whose body must not start; a Failed state would be retried."""
    from prefect.states import Cancelled, Completed

    reason = (claim.decision.reason if claim.decision is not None else None) or claim.run.error_message
    message = f"{show_run_id(claim.run.id)}: {reason or claim.run.stop_reason}"
    if claim.run.status == RunStatus.SKIPPED:
        return Completed(name="Skipped", message=message)
    if claim.run.status == RunStatus.REFUSED:
        return Cancelled(name="Refused", message=message)
    return Cancelled(message=message)


def _signature(function: Function, names: Mapping[str, str]) -> inspect.Signature:
    signature = inspect.signature(function, eval_str=True)
    own = list(signature.parameters.values())
    if not own or own[0].name != "run":
        _refuse(function, "its first parameter is `run: RunContext`")
    clash = sorted({parameter.name for parameter in own[1:]} & names.keys())
    if clash:
        name = clash[0]
        _refuse(
            function,
            f"its parameter {name!r} clashes with Freshline's; decorate with rename={{{name!r}: ...}}",
        )
    added = [
        inspect.Parameter(shown, inspect.Parameter.KEYWORD_ONLY, default=_ADDED[name][1], annotation=_ADDED[name][0])
        for shown, name in names.items()
    ]
    rest = [parameter for parameter in own[1:] if parameter.kind != inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*rest, *added, *(p for p in own[1:] if p not in rest)])


def _refuse(function: Function, problem: str) -> NoReturn:
    raise TypeError(f"{function.__module__}.{function.__qualname__} cannot be tracked: {problem}")


def _documented(doc: str | None, names: Mapping[str, str]) -> str:
    """Return the docstring with the added parameters in its Args section, from where Prefect's form takes them."""
    # Prefect reads an Args section only behind a summary.
    lines = inspect.cleandoc(doc or "A run that Freshline tracks.").splitlines()
    added = [f"    {shown}: {_ADDED[name][2]}" for shown, name in names.items()]
    if "Args:" not in lines:
        return "\n".join([*lines, "", "Args:", *added])
    start = lines.index("Args:") + 1
    end = start
    while end < len(lines) and (lines[end].startswith(" ") or not lines[end]):
        end += 1
    while not lines[end - 1]:
        end -= 1
    return "\n".join([*lines[:end], *added, *lines[end:]])
