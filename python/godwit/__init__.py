# SPDX-License-Identifier: MIT
"""
libgodwit and libgodwit-qemu from Python, by ctypes: keep, inspect, restore, serve and protect the guest of a QEMU, and drive a guest whose memory is in this process.

    import godwit

    with godwit.Job() as job:
        godwit.Qemu(job).save("unix:/run/vm/qmp", "vm.img")
        with job.inspect("vm.img") as info:
            print(info.summary.machine, [b.name for b in info.blocks()])

The names are those of godwit.h, without gw_; man libgodwit(3), libgodwit-qemu(3) and libgodwit-unstable(3) tell what a call does. A field of an option struct is a
keyword. A nested struct is a dict, a callback a Python function without `ctx`, a number to which C takes a pointer an int. A result is an object with the fields of the
struct. A call that fails raises Error, which has errno, the sentence and the result. Constants are here under their C names: godwit.GW_COMPRESS_ZSTD.

Calls let other threads of Python run. A call takes as long as its migration: cancel() a job from another thread.
"""
import ctypes as c
import errno as _errno
import os
import types

from . import _abi
from ._abi import *     # constants and structs, for whoever needs them  # pylint: disable=wildcard-import,unused-wildcard-import

_LIBRARIES = {False: c.CDLL("libgodwit.so.0"), True: c.CDLL("libgodwit-qemu.so.0")}


def _find(name):
    result, arguments = _abi.FUNCTIONS[name]
    function = _LIBRARIES[name.startswith("gw_qemu_")][name]
    function.restype, function.argtypes = result, arguments
    return function


_F = {name: _find(name) for name in _abi.FUNCTIONS}


class Error(OSError):
    """errno, strerror: the library's sentence. result: what the call knows all the same; None where it has no result."""
    result = None


def _fail(r, sentence, result=None):
    e = Error(-r, sentence or os.strerror(-r))
    e.result = result
    raise e


# --- Python and C ---

def _callback(kind, function, failures):
    """Without its last or first `ctx`. What it raises ends the call: a C function with a result returns -EIO."""
    def called(*args):
        try:
            answer = function(*(_value(a) for a in _without_ctx(kind, args)))
            return 0 if answer is None else answer
        except BaseException as e:      # it must not go through C  # pylint: disable=broad-exception-caught
            failures.append(e)
            return -_errno.EIO
    return kind(called)


def _without_ctx(kind, args):
    return args[1:] if kind._argtypes_ and kind._argtypes_[0] is c.c_void_p else args


def _is_callback(kind):
    return isinstance(kind, type) and issubclass(kind, c._CFuncPtr)     # pylint: disable=protected-access


def _field(kind, value, keep, failures):
    """A value for a field of this type. What C gets the address of goes into `keep`."""
    if value is None:
        return None
    if isinstance(value, str):
        value = os.fsencode(value)
    if _is_callback(kind):
        value = _callback(kind, value, failures)
    elif hasattr(kind, "_length_") and kind._type_ is not c.c_char:     # an array
        value = kind(*value)
    elif isinstance(value, dict) and issubclass(kind, c.Structure):
        value = _filled(kind, value, keep, failures)
    elif hasattr(kind, "contents"):     # a pointer
        pointee = kind._type_
        if isinstance(value, dict):
            value = c.pointer(_filled(pointee, value, keep, failures))
        elif isinstance(value, c.Structure):
            value = c.pointer(value)
        elif pointee is c.c_char_p:
            value = (c.c_char_p * (len(value) + 1))(*(os.fsencode(v) for v in value), None)
            keep.append(value)
            value = c.cast(value, kind)
        elif isinstance(value, int):
            value = c.pointer(pointee(value))
    keep.append(value)
    return value


def _filled(kind, given, keep, failures):
    """A struct with these fields."""
    s, fields = kind(), dict(kind._fields_)
    if "size" in fields:
        s.size = c.sizeof(kind)
    for name, value in given.items():
        if name not in fields or name == "size":
            raise TypeError(f"{kind.__name__} has no field {name}")
        if value is not None:
            setattr(s, name, _field(fields[name], value, keep, failures))
    keep.append(s)
    return s


def _value(v):
    """What C has, as Python has it: text, numbers, objects with the fields of structs. Other pointers stay what they are."""
    if isinstance(v, bytes):
        return v.decode("utf-8", "surrogateescape")
    if isinstance(v, c.Structure):
        return types.SimpleNamespace(**{name: _value(getattr(v, name)) for name, _ in v._fields_ if name != "size"})
    if isinstance(v, c.Array):
        return [_value(x) for x in v]
    if hasattr(type(v), "contents") and issubclass(type(v)._type_, c.Structure):
        return _value(v.contents) if v else None
    return v


def _call(name, handle, error, *args, options=None, failures=None):
    """One call: the handle, the arguments, then the option struct and the result if it takes them. Returns its result, or what it returned if there is none."""
    keep, failures = [], [] if failures is None else failures
    _, kinds = _abi.FUNCTIONS[name]
    given, result = [handle, *(os.fsencode(a) if isinstance(a, (str, os.PathLike)) else a for a in args)], None
    for kind in kinds[len(given):]:
        struct = kind._type_
        if struct.__name__.endswith("_opts"):
            given.append(c.byref(_filled(struct, options or {}, keep, failures)))
            options = None
        else:
            result = _filled(struct, {}, keep, failures)
            given.append(c.byref(result))
    if options:
        raise TypeError(f"{name} has no options")
    r = _F[name](*given)
    answer = r if result is None else _value(result)
    if result is not None:
        answer.returned = r     # 0, or a positive answer such as GW_SOURCE_NOT_NOTIFIED
    if failures:
        raise failures.pop(0)
    if r < 0:
        _fail(r, error(), answer)
    return answer


def _text(b):
    return b.decode("utf-8", "surrogateescape") if b else ""


def _listed(name, *handle):
    """All texts of a function that returns NULL past the end."""
    i, found = 0, []
    while (text := _F[name](*handle, i)) is not None:
        found.append(_text(text))
        i += 1
    return found


version = _text(_F["gw_version"]())
PLACES, NEXT_STEPS = _listed("gw_place_name"), _listed("gw_next_step_name")


class _Handle:
    """A thing of the library that is freed once; with `with`, at the end of the block."""
    free = None     # the name of its function
    _h = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if self._h:
            _F[self.free](self._h)
            self._h = None

    def close(self):
        self.__del__()


# --- jobs ---

class Job(_Handle):
    """One piece of work at a time."""
    free = "gw_job_free"

    def __init__(self):
        h = c.c_void_p()
        r = _F["gw_job_new"](c.byref(h))
        if r:
            _fail(r, "a job cannot be made")
        self._h = h

    @property
    def error(self):
        return _text(_F["gw_job_error"](self._h))

    @property
    def warnings(self):
        return _listed("gw_job_warning", self._h)

    def _do(self, name, *args, **options):
        return _call(name, self._h, lambda: self.error, *args, options=options)

    def cancel(self):
        """From any thread."""
        _F["gw_job_cancel"](self._h)

    def reset(self):
        self._do("gw_job_reset")

    def progress(self):
        return self._do("gw_job_progress")

    def outcome(self):
        return self._do("gw_job_outcome")

    def limits(self, **limits):
        """Of calls with a guest; from any thread."""
        keep = []
        r = _F["gw_job_limits"](self._h, c.byref(_filled(_abi.gw_limits, limits, keep, [])))
        if r:
            _fail(r, "these limits are not possible")

    def order(self, order):
        """One of GW_ORDER_...; from any thread."""
        r = _F["gw_job_order"](self._h, order)
        if r:
            _fail(r, "")

    def inspect(self, path, **options):
        keep, h = [], c.c_void_p()
        o = _filled(_abi.gw_inspect_opts, options, keep, [])
        r = _F["gw_inspect"](self._h, os.fsencode(path), c.byref(o), c.byref(h))
        if r < 0 and not h:
            _fail(r, self.error)
        return Info(h, None if r >= 0 else Error(-r, self.error))

    def receive(self, uri, path, **options):
        return self._do("gw_receive", uri, path, **options)

    def receive_file(self, path, **options):
        return self._do("gw_receive_file", path, **options)

    def drain(self, uri, path, **options):
        return self._do("gw_drain", uri, path, **options)

    def send(self, path, uri, **options):
        return self._do("gw_send", path, uri, **options)

    def serve(self, path, uri, **options):
        return self._do("gw_serve", path, uri, **options)

    def proxy(self, listen_uri, connect_uri, **options):
        return self._do("gw_proxy", listen_uri, connect_uri, **options)

    def convert(self, path, to, **options):
        return self._do("gw_convert", path, to, **options)

    def standby(self, uri, folder, **options):
        return self._do("gw_standby", uri, folder, **options)

    def partial_info(self, path):
        return self._do("gw_partial_info", path)

    def compare(self, a, b):
        """The differences, a sentence each."""
        found, failures = [], []

        def difference(sentence):
            found.append(sentence)
            return True
        _call("gw_compare", self._h, lambda: self.error, a, b, _callback(_abi.gw_difference_fn, difference, failures), None, failures=failures)
        return found


class Info(_Handle):
    """What an image or a stream file holds. error: why the file could not be read to its end; None: it was."""
    free = "gw_info_free"

    def __init__(self, handle, error):
        self._h, self.error = handle, error

    def _get(self, name, *args):
        return _call(name, self._h, lambda: "", *args)

    def _all(self, name, *args):
        found = []
        while True:
            try:
                found.append(self._get(name, *args, len(found)))
            except Error as e:
                if e.errno != _errno.ERANGE:
                    raise
                return found

    @property
    def summary(self):
        return self._get("gw_info_summary")

    @property
    def warnings(self):
        return _listed("gw_info_warning", self._h)

    def blocks(self):
        return self._all("gw_info_block")

    def devices(self):
        return self._all("gw_info_device")

    def fields(self, device):
        """Of the device with this number."""
        return self._all("gw_info_field", device)

    def pages(self, block, first, n):
        return self._get("gw_info_pages", block, first, n)


# --- QEMUs ---

class Qemu(_Handle):
    """The driver of a QEMU, which borrows the job."""
    free = "gw_qemu_free"

    def __init__(self, job):
        h = c.c_void_p()
        r = _F["gw_qemu_new"](job._h, c.byref(h))   # pylint: disable=protected-access
        if r:
            _fail(r, "a driver cannot be made")
        self._h, self.job, self._log, self._failures = h, job, None, []

    def _do(self, name, *args, **options):
        return _call(name, self._h, lambda: _text(_F["gw_qemu_error"](self._h)), *args, options=options, failures=self._failures)

    def on_log(self, function):
        """function(level, sentence)"""
        self._log = _callback(_abi.gw_qemu_log_fn, function, self._failures)
        _F["gw_qemu_on_log"](self._h, self._log, None)

    def cancel(self):
        """From any thread."""
        _F["gw_qemu_cancel"](self._h, None)

    def save(self, monitor, path, **options):
        return self._do("gw_qemu_save", monitor, path, **options)

    def restore(self, path, **options):
        """monitor="...", or command=["qemu-system-x86_64", ...]"""
        return self._do("gw_qemu_restore", path, **options)

    def serve(self, monitor, path, **options):
        return self._do("gw_qemu_serve", monitor, path, **options)

    def protect(self, monitor, uri, **options):
        return self._do("gw_qemu_protect", monitor, uri, **options)

    def failover(self, folder, restore, **options):
        """restore: the options of restore()"""
        return self._do("gw_qemu_failover", folder, restore=restore, **options)

    def drain(self, monitor, path, **options):
        return self._do("gw_qemu_drain", monitor, path, **options)


# --- guests of this process ---

class Guest(_Handle):
    """
    A guest whose RAM is in this process: pause(why) and resume(why) are its hooks, `options` those of gw_guest_opts. It stays in the library if it may not be freed
    (GW_HELD, GW_IN_DOUBT, GW_PARTIAL): then close() raises Error.
    """
    free = "gw_guest_free"

    def __init__(self, machine, pause, resume, **options):
        self._keep, self._failures, self._memory, h = [], [], [], c.c_void_p()
        ops = _filled(_abi.gw_guest_ops, {"pause": pause, "resume": resume}, self._keep, self._failures)
        o = _filled(_abi.gw_guest_opts, {"machine": machine, **options}, self._keep, self._failures)
        r = _F["gw_guest_new"](c.byref(h), c.byref(ops), c.byref(o), None)
        if r:
            _fail(r, "the guest cannot be made")
        self._h = h

    def close(self):
        r = _F["gw_guest_free"](self._h) if self._h else 0
        if r:
            _fail(r, self.error)
        self._h = None
        self._memory.clear()

    @property
    def error(self):
        return _text(_F["gw_guest_error"](self._h))

    @property
    def where(self):
        """GW_HERE, GW_GONE, ..."""
        return _F["gw_guest_where"](self._h)

    @property
    def where_name(self):
        return _text(_F["gw_guest_where_name"](self.where))

    def _check(self, r):
        if r < 0:
            _fail(r, self.error)

    def add_block(self, name, memory, **options):
        """memory: a writable buffer that begins at a page, such as mmap.mmap(-1, bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS). It is kept until close()."""
        view = (c.c_char * len(memory)).from_buffer(memory)
        block = _filled(_abi.gw_block, {"name": name, "host": c.addressof(view), "bytes": len(memory), **options}, self._keep, self._failures)
        self._check(_F["gw_guest_add_block"](self._h, c.byref(block)))
        self._memory.append(view)

    def add_device(self, name, save, load, **options):
        """save() returns bytes; load(data, version) takes them."""
        def write(out):
            data = save()
            return _F["gw_out_write"](out, data, len(data))

        def read(version_of_it, at, n):
            load(c.string_at(at, n), version_of_it)
        device = _filled(_abi.gw_device, {"name": name, "save": write, "load": read, **options}, self._keep, self._failures)
        self._check(_F["gw_guest_add_device"](self._h, c.byref(device)))

    def dirty(self, block, offset, n):
        """From any thread."""
        self._check(_F["gw_guest_dirty"](self._h, os.fsencode(block), offset, n))

    def discard(self, block, offset, n):
        """From any thread."""
        self._check(_F["gw_guest_discard"](self._h, os.fsencode(block), offset, n))

    def decide(self, it_is_ours):
        self._check(_F["gw_guest_decide"](self._h, it_is_ours))

    def _do(self, job, name, to, options):
        self._failures.clear()
        return _call(name, job._h, lambda: job.error, self._h, to, options=options, failures=self._failures)    # pylint: disable=protected-access

    def send(self, job, uri, **options):
        return self._do(job, "gw_guest_send", uri, options)

    def receive(self, job, uri, **options):
        return self._do(job, "gw_guest_receive", uri, options)

    def save(self, job, path, **options):
        return self._do(job, "gw_guest_save", path, options)

    def restore(self, job, path, **options):
        return self._do(job, "gw_guest_restore", path, options)

    def protect(self, job, uri, **options):
        return self._do(job, "gw_guest_protect", uri, options)

    def standby(self, job, uri, **options):
        return self._do(job, "gw_guest_standby", uri, options)
