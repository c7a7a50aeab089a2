"""A timeline as IVmControl tells it."""

from avf.aidl.vm_control import LifecycleMoment, StartPhase
from avf.aidl.vm_control import Timeline as TimelineMessage
from avf.virtmgr.timeline import Picture


def told_timeline(picture: Picture) -> TimelineMessage:
    return TimelineMessage(
        kind=picture.kind,
        created_unix_nanos=picture.created,
        phases=[
            StartPhase(
                name=phase.name,
                in_guest=phase.in_guest,
                begin_nanos=phase.begin,
                end_nanos=phase.end,
            )
            for phase in picture.phases
        ],
        moments=[LifecycleMoment(step=step, nanos=nanos) for step, nanos in picture.moments],
        guest_error_nanos=-1 if picture.guest_error is None else picture.guest_error,
    )
