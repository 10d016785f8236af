"""The tables that the fault tests look into, under short names."""

from freshline.lineage.models import Cause, Deployment, DeploymentState, Version
from freshline.runs.models import Outbox, Run, RunDependency, RunEvent

RUN, EVENT, OUTBOX, DEPENDENCY = (one.__table__ for one in (Run, RunEvent, Outbox, RunDependency))
DEPLOYMENT, STATE, VERSION, CAUSE = (one.__table__ for one in (Deployment, DeploymentState, Version, Cause))
