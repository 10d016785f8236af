"""`track`: makes a flow's function a tracked one. Its first act is the claim, its last the publication.

    @flow
    @track.training
    def train(run: RunContext, lookback_d: int = 252) -> TrainingMetrics: ...

The decorator takes `run` out of the signature and adds Freshline's own parameters, typed and described: that is what
people see in Prefect's run form.
"""

import functools
import inspect
import time
import traceback
from collections.abc import Awaitable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from ..deployments.gateway import FlowRunFacts
from ..runs.composition import flow_port
from ..runs.execution import Claim
from ..runs.intake import FlowCall
from ..runs.port import RunPort
from ..runs.request import RunRequest
from ..runs.status import RunStatus
from ..storage.declared import declared_tables
from ..storage.errors import Conflict, Fenced, FreshlineError, UpstreamNotReady
from ..storage.ids import show_run_id
from ..storage.words import DeploymentKind
from .calls import Tracked, call_of, executing
from .context import RunContext
from .identity import RunIdentity
from .lease import Lease, RunCancelled, RunPaused
from .outcome import stored_traceback
from .provenance import provenance
from .signature import ADDED, Function, documented, signature_of


class Track:
    """The decorators, one per deployment kind."""

    def __init__(self, kind: DeploymentKind) -> None:
        self._kind = kind

    def __call__(
        self,
        function: Function | None = None,
        *,
        rename: Mapping[str, str] | None = None,
        system_metrics: bool | None = None,
    ) -> Any:
        """Decorate a flow's function; `rename` gives one of the added parameters another name.

        `system_metrics` says whether the use of processor, memory and so on is sampled; without it, the setting does.

        Raises:
            TypeError: the function has no parameter `run`, or one of its own clashes with an added one.
        """
        if function is None:
            return functools.partial(self.__call__, rename=rename, system_metrics=system_metrics)
        return _tracked(function, self._kind, dict(rename or {}), system_metrics=system_metrics)


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


def _tracked(
    function: Function, kind: DeploymentKind, rename: Mapping[str, str], *, system_metrics: bool | None
) -> Function:
    names = {rename.get(name, name): name for name in ADDED}
    signature = signature_of(function, names)
    tracked = Tracked(function, kind, names, system_metrics=system_metrics)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple["Attempt", inspect.BoundArguments]:
        """Return the attempt, and the body's own arguments: Freshline's are recorded, and come with the claim."""
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        attempt = Attempt.begin(tracked, bound.arguments)
        bound.arguments = {name: value for name, value in bound.arguments.items() if name not in names}
        return attempt, bound

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            attempt, own = begin(args, kwargs)
            if not attempt.may_start:
                return attempt.ended
            with attempt.executing(), attempt:
                body: Awaitable[Any] = function(attempt.context, *own.args, **own.kwargs)
                attempt.returned = await body
            return attempt.outcome()

        wrapper: Function = run_async
    else:

        @functools.wraps(function)
        def run_sync(*args: Any, **kwargs: Any) -> Any:
            attempt, own = begin(args, kwargs)
            if not attempt.may_start:
                return attempt.ended
            with attempt.executing(), attempt:
                attempt.returned = function(attempt.context, *own.args, **own.kwargs)
            return attempt.outcome()

        wrapper = run_sync

    wrapper.__signature__ = signature  # type: ignore[attr-defined]  # what inspect and Prefect look at
    wrapper.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    wrapper.__doc__ = documented(function.__doc__, names)
    wrapper.__freshline_kind__ = kind  # type: ignore[attr-defined]  # the catalogue compares it with `runs:`
    wrapper.__freshline_names__ = dict(names)  # type: ignore[attr-defined]  # registered with the deployment
    wrapper.__freshline_body__ = function  # type: ignore[attr-defined]  # to know it by, and for tests without a server
    return wrapper


class Attempt:
    """One start of a body: from the claim to the publication, as a context around the body."""

    def __init__(
        self,
        port: RunPort,
        call: FlowCall,
        claim: Claim,
        *,
        within: UUID,
        ended: Any = None,
        system_metrics: bool = False,
    ) -> None:
        self.may_start = claim.may_start
        self.ended = ended
        """What to return when the body must not start: to Prefect, a state."""
        self.returned: Any = None
        self._port = port
        self._flow_run = call.flow_run
        """None for a plain call within a flow: nothing can suspend or retry it."""
        self._within = within
        self._run = claim.run
        self._claimed_s = time.monotonic()
        self._cancelled = False
        if claim.may_start:
            self._lease = Lease(
                lambda: port.heartbeat(claim.run.id, claim.run.fence),
                interval_s=port.heartbeat_s,
                terms=port.lease_terms(claim.run.id, claim.run.fence),
                send=self._send,
                can_pause=call.can_wait,
            )
            self.context = RunContext(_identity(claim), port, self._lease, system_metrics=system_metrics)

    @classmethod
    def begin(cls, tracked: Tracked, arguments: Mapping[str, Any]) -> "Attempt":
        """Claim the run of this start of a tracked function.

        Raises:
            FreshlineError: no flow run is executed, or no deployment is registered for it, or several may be meant, or
                another store was reached.
            UpstreamNotReady: a plain call was refused; Prefect gets a state instead.
        """
        port, execution = flow_port()
        if execution is None:
            raise FreshlineError(
                "a tracked flow runs as a flow run of a registered deployment; "
                "to try its body without one, use freshline.testing.run"
            )
        call = call_of(tracked, arguments, execution)
        claim = port.claim(call, provenance=provenance())
        within = execution.flow_run.id
        if claim.may_start:
            wanted = port.system_metrics if tracked.system_metrics is None else tracked.system_metrics
            return cls(port, call, claim, within=within, system_metrics=wanted)
        if call.flow_run is None:
            _raise_refusal(claim)
            return cls(port, call, claim, within=within)
        if claim.run.status == RunStatus.WAITING and call.can_wait:
            port.suspend(call.flow_run, reason=_why_not(claim))
        return cls(port, call, claim, within=within, ended=_ended_state(claim))

    def executing(self) -> AbstractContextManager[None]:
        """Return a block that is the body: what it calls has this run as its parent."""
        return executing(self._run.id, within=self._within)

    def __enter__(self) -> "Attempt":
        self._lease.__enter__()
        self._port.send_left_behind()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        run_id, fence = self._run.id, self._run.fence
        try:
            # Whatever the body, or the step in which it was told, made of it: that is why it stopped.
            error = error and (self._lease.stopped or error)
            if error is not None:
                self.context.interrupted()
            if isinstance(error, RunCancelled):
                self._port.acknowledge_cancel(run_id, fence)
                self._cancelled = True
                return True
            if isinstance(error, RunPaused) and self._flow_run is not None:
                self._suspend(self._flow_run)
            if error is None:
                try:
                    self._port.complete(run_id, fence, self.context.result(self.returned))
                except Exception as failure:
                    self.context.interrupted()
                    self._fail(failure)
                    raise
                self.context.published()
            elif isinstance(error, Exception):
                self._fail(error)
            elif self._flow_run is None:
                # Whatever unwinds the calling flow: nobody takes a plain call up again, it is made anew.
                self._fail(error)
            elif _is_pause(error):
                self._port.pause(run_id, fence)
            return False
        finally:
            self._lease.__exit__()
            self.context.close()

    def outcome(self) -> Any:
        """Return what the flow returns to Prefect, or the plain call to its caller.

        Raises:
            Conflict: a plain call was cancelled: it has nothing to return.
        """
        if self._cancelled:
            from prefect.states import Cancelled

            message = f"{show_run_id(self._run.id)} was cancelled"
            if self._flow_run is None:
                raise Conflict(message)
            return Cancelled(message=message)
        return self.returned

    def _send(self) -> None:
        self.context.flush()

    def _fail(self, error: BaseException) -> None:
        trace = "".join(traceback.format_exception(error))
        flow_run = self._flow_run
        # Prefect counts how often it entered Running; within one process its count may be that of the start.
        retried = flow_run if flow_run and max(self._run.attempt, flow_run.run_count) <= flow_run.retries else None
        stored = None if isinstance(error, Fenced) else stored_traceback(self._port.objects, trace)
        self._port.fail(
            self._run.id,
            self._run.fence,
            error,
            trace,
            will_retry=retried is not None,
            artifacts=[stored] if stored is not None else [],
            traceback_ref=stored.name if stored is not None else None,
            counters=self.context.counted,
            step_counters=self.context.counted_in_steps,
            resume_due_at=self._after(retried.retry_delay_s) if retried is not None else None,
        )

    def _after(self, delay_s: float) -> datetime:
        """Return the moment after this delay, by the store's clock: this machine's may be off by an hour."""
        claimed_at: datetime = self._run.heartbeat_at
        return claimed_at + timedelta(seconds=time.monotonic() - self._claimed_s + delay_s)

    def _suspend(self, flow_run: FlowRunFacts) -> NoReturn:
        """Give the worker back, as was asked; Prefect's signal unwinds the flow."""
        try:
            self._port.suspend(flow_run, reason=f"{show_run_id(self._run.id)} was paused")
        except Exception as failure:
            self._fail(failure)
            raise
        except BaseException:
            self._port.pause(self._run.id, self._run.fence)
            raise
        raise AssertionError("a flow run that was suspended goes no further")


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
        schema=declared_tables(claim.deployment.declaration),
    )


def _why_not(claim: Claim) -> str:
    """Return the sentence that says why the body must not start."""
    run = claim.run
    if run.status == RunStatus.CANCELLED:
        return f"{show_run_id(run.id)} was cancelled"  # whatever its last attempt had failed with
    # What ended it may be more than what the gate saw: that nothing can refresh an upstream.
    reason = run.error_message or (claim.decision.reason if claim.decision is not None else None)
    if reason is None and run.status == RunStatus.SKIPPED:
        reason = "the deployment is ready already"  # whatever the gate had said while it was not
    if reason is None and run.status == RunStatus.WAITING:
        reason = (run.decision or {}).get("reason")
    return f"{show_run_id(run.id)}: {reason or run.stop_reason or 'upstreams are not ready'}"


def _raise_refusal(claim: Claim) -> None:
    """Tell the caller of a plain function that it may not start, unless it need not: then it returns nothing."""
    if claim.run.status == RunStatus.REFUSED:
        raise UpstreamNotReady(_why_not(claim))
    if claim.run.status != RunStatus.SKIPPED:
        raise Conflict(_why_not(claim))


def _ended_state(claim: Claim) -> Any:
    """Return the Prefect state of a run whose body must not start; a Failed state would be retried."""
    from prefect.states import Cancelled, Completed

    message = _why_not(claim)
    if claim.run.status == RunStatus.SKIPPED:
        return Completed(name="Skipped", message=message)
    if claim.run.status == RunStatus.REFUSED:
        return Cancelled(name="Refused", message=message)
    return Cancelled(message=message)
