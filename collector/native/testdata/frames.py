# For gdb: writes the registers, the stack memory and the frames of every thread
# of the process attached to as JSON lines to $BEAMPROF_OUT, one per thread and
# stop. $BEAMPROF_STEPS > 0: sets the variable go and steps that many
# instructions in the current thread.
import json, os
import gdb

STACK = 16384
REGISTERS = os.environ["BEAMPROF_REGISTERS"].split(",")
MASK = (1 << 64) - 1


def register(frame, name):
    try:
        value = frame.read_register(name)
        if value.is_optimized_out:
            return None
        return int(value.cast(gdb.lookup_type("unsigned long"))) & MASK
    except gdb.error:
        return None


def state(frame):
    registers = {name: register(frame, name) for name in REGISTERS}
    return {"pc": frame.pc(), "sp": register(frame, "sp"), "registers": {n: v for n, v in registers.items() if v is not None}}


def stack(sp):
    for size in range(STACK, 0, -512):
        try:
            return gdb.selected_inferior().read_memory(sp, size).tobytes().hex()
        except gdb.MemoryError:
            pass
    return ""


def record(out):
    frame = gdb.newest_frame()
    frames, first = [], state(frame)
    while frame is not None and len(frames) < 200:
        # Tail calls leave no trace in memory: gdb infers them from debug information.
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            frames.append(dict(state(frame), name=frame.name() or ""))
        try:
            frame = frame.older()
        except gdb.error:
            break
    out.write(json.dumps({"frames": frames, "base": first["sp"], "stack": stack(first["sp"])}) + "\n")


gdb.execute("set pagination off")
gdb.execute("set backtrace past-main on")
gdb.execute("set backtrace past-entry on")
with open(os.environ["BEAMPROF_OUT"], "w") as out:
    steps = int(os.environ["BEAMPROF_STEPS"])
    if steps == 0:
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            record(out)
    else:
        gdb.execute("set {int}&go = 1")
    for _ in range(steps):
        gdb.execute("stepi", to_string=True)
        record(out)
