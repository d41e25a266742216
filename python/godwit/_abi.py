# SPDX-License-Identifier: MIT
# pylint: skip-file
"""Made by scripts/make-python from include/*.h: constants, structs, callbacks, and the types of all functions. Not to be edited."""
import ctypes as c


GW_PHASE_WAITING = 0
GW_PHASE_RAM = 1
GW_PHASE_DEVICES = 2
GW_PHASE_SYNC = 3
GW_PHASE_DONE = 4
GW_MIGRATION_NONE = 0
GW_MIGRATION_SETUP = 1
GW_MIGRATION_ACTIVE = 2
GW_MIGRATION_POSTCOPY_DEVICE = 3
GW_MIGRATION_POSTCOPY_ACTIVE = 4
GW_MIGRATION_POSTCOPY_PAUSED = 5
GW_MIGRATION_POSTCOPY_RECOVER = 6
GW_MIGRATION_COMPLETED = 7
GW_MIGRATION_FAILED = 8
GW_RUN_STATE_UNKNOWN = 0
GW_RUN_STATE_RUNNING = 1
GW_RUN_STATE_PAUSED = 2
GW_RUN_STATE_PRELAUNCH = 3
GW_RUN_STATE_SHUTDOWN = 4
GW_RUN_STATE_GUEST_PANICKED = 5
GW_RUN_STATE_WATCHDOG = 6
GW_RUN_STATE_IO_ERROR = 7
GW_RUN_STATE_SUSPENDED = 8
GW_RUN_STATE_INMIGRATE = 9
GW_RUN_STATE_DEBUG = 10
GW_RUN_STATE_INTERNAL_ERROR = 11
GW_RUN_STATE_PRECONFIG = 12
GW_RUN_STATE_POSTMIGRATE = 13
GW_RUN_STATE_FINISH_MIGRATE = 14
GW_RUN_STATE_SAVE_VM = 15
GW_RUN_STATE_RESTORE_VM = 16
GW_RUN_STATE_COLO = 17
GW_PLACE_SOURCE_RUNS = 0
GW_PLACE_SOURCE_PAUSED = 1
GW_PLACE_DESTINATION_RUNS = 2
GW_PLACE_DESTINATION_WAITS = 3
GW_PLACE_KEPT_WHOLE = 4
GW_PLACE_KEPT_IN_PART = 5
GW_PLACE_SPLIT = 6
GW_PLACE_BOTH_POSSIBLE = 7
GW_PLACE_LOST = 8
GW_NEXT_NOTHING = 0
GW_NEXT_TRY_AGAIN = 1
GW_NEXT_ASK_SOURCE = 2
GW_NEXT_CONTINUE_SOURCE = 3
GW_NEXT_RESUME = 4
GW_NEXT_END_WITHOUT_SOURCE = 5
GW_NEXT_REMOVE_FILES = 6
GW_NEXT_ASK_DESTINATION = 7
GW_NEXT_SERVE = 8
GW_NEXT_RESTORE = 9
GW_NEXT_RESTART_DESTINATION = 10
GW_NEXT_DRAIN = 11
GW_NEXT_KEEP_SOURCE = 12
GW_NEXT_RECOVER = 13
GW_NEXT_FAILOVER = 14
GW_EVIDENCE_WRONG_USE = 0
GW_EVIDENCE_REFUSED = 1
GW_EVIDENCE_UNCHANGED = 2
GW_EVIDENCE_SOURCE_RUNS = 3
GW_EVIDENCE_SOURCE_STANDS = 4
GW_EVIDENCE_SAVED_RUNS = 5
GW_EVIDENCE_SAVED_STANDS = 6
GW_EVIDENCE_SAVED_STOPPED = 7
GW_EVIDENCE_SOURCE_UNREPAIRED = 8
GW_EVIDENCE_SOURCE_WAITS = 9
GW_EVIDENCE_SOURCE_UNCLEAR = 10
GW_EVIDENCE_SOURCE_GONE = 11
GW_EVIDENCE_SOURCE_HANGS = 12
GW_EVIDENCE_GIVEN_BACK = 13
GW_EVIDENCE_NOT_GIVEN_BACK = 14
GW_EVIDENCE_FILES_LEFT = 15
GW_EVIDENCE_ALSO_KEPT = 16
GW_EVIDENCE_ARRIVED = 17
GW_EVIDENCE_DESTINATION_FAILED = 18
GW_EVIDENCE_DESTINATION_WAITS = 19
GW_EVIDENCE_DESTINATION_UNCLEAR = 20
GW_EVIDENCE_DESTINATION_SHUT_DOWN = 21
GW_EVIDENCE_DESTINATION_HANGS = 22
GW_EVIDENCE_DRAINED_UNSAFE = 23
GW_EVIDENCE_DRAINED_UNREAD = 24
GW_EVIDENCE_DRAINED_UNCONFIRMED = 25
GW_EVIDENCE_RELEASED = 26
GW_EVIDENCE_PRIMARY_SHUT_DOWN = 27
GW_EVIDENCE_PRIMARY_GONE = 28
GW_URI_TCP = 0
GW_URI_UNIX = 1
GW_URI_VSOCK = 2
GW_URI_FD = 3
GW_URI_FILE = 4
GW_URI_EXEC = 5
GW_URI_ANY_FAMILY = 0
GW_URI_IPV4 = 1
GW_URI_IPV6 = 2
GW_SAY_FAILED = 1
GW_SOURCE_NOT_NOTIFIED = 1
GW_WRITING = 1
GW_PARTIAL_GUEST = 0
GW_PARTIAL_MEMORY = 1
GW_PARTIAL_LAYOUT = 2
GW_PARTIAL_COMMITTED = 3
GW_CLEANUP_INCOMPLETE = 2
GW_COMPRESS_NONE = 0
GW_COMPRESS_ZLIB = 1
GW_COMPRESS_ZSTD = 2
GW_PREEMPT_OFF = 0
GW_PREEMPT_ON = 1
GW_PREEMPT_EARLY = 2
GW_PROXY_NEITHER = 0
GW_PROXY_FORWARD = 1
GW_PROXY_RETURN = 2
GW_PROXY_CUT_AFTER = 0
GW_PROXY_CUT_AT = 1
GW_PROXY_RATE = 2
GW_PROXY_NO_MIGRATION = 0
GW_PROXY_AT_SOURCE = 1
GW_PROXY_ARRIVED = 2
GW_PROXY_UNCONFIRMED = 3
GW_PROXY_PAUSED = 4
GW_PROXY_IN_DOUBT = 5
GW_FORMAT_AUTO = 0
GW_FORMAT_IMAGE = 1
GW_FORMAT_STREAM = 2
GW_FORMAT_RAW = 3
GW_UNSYNCED = 3
GW_STANDBY_CONNECTED = 0
GW_STANDBY_PROTECTED = 1
GW_STANDBY_EPOCH = 2
GW_STANDBY_ENDED = 3
GW_STANDBY_FAILED = 4
GW_WAY_REFUSED = 0
GW_WAY_DIRECT = 1
GW_WAY_STREAM = 2
GW_WAY_CLONE = 3
GW_AFTER_REFUSED = 0
GW_AFTER_RUNS = 1
GW_AFTER_KEPT = 2
GW_AFTER_STOPPED = 3
GW_OPERATION_SAVE = 0
GW_OPERATION_RECEIVE = 1
GW_OPERATION_SEND = 2
GW_OPERATION_RESTORE_DIRECT = 3
GW_OPERATION_RESTORE_STREAM = 4
GW_OPERATION_CONVERT = 5
GW_OPERATION_QEMU_SOURCE = 6
GW_OPERATION_QEMU_DESTINATION = 7
GW_EVENT_NONE = 0
GW_EVENT_PHASE = 1
GW_EVENT_LISTENING = 2
GW_EVENT_CONNECTED = 3
GW_EVENT_RUNS = 4
GW_EVENT_NOTE = 5
GW_EVENT_DIFFERENCE = 6
GW_EVENT_STANDBY = 7
GW_EVENT_DONE = 8
GW_EVENT_TRACE = 9
GW_EVENT_MESSAGE = 10
GW_EVENT_CHANNEL = 11
GW_EVENT_READY = 12
GW_EVENT_BROKEN = 13
GW_EVENT_WHOLE = 14
GW_EVENT_SOURCE_NOTIFIED = 15
GW_EVENT_SOCKET = 16
GW_QEMU_HINT_NONE = 0
GW_QEMU_HINT_AT_END = 1
GW_QEMU_HINT_NO_POSTCOPY = 2
GW_QEMU_HINT_OTHER_WORK = 3
GW_QEMU_HINT_SAVE_RESUME = 4
GW_QEMU_HINT_SERVE = 5
GW_QEMU_HINT_SEND = 6
GW_QEMU_HINT_CONVERT = 7
GW_QEMU_HINT_NOT_LAZY = 8
GW_QEMU_HINT_NOT_CLONE = 9
GW_QEMU_HINT_NOT_RESUME_ONLY = 10
GW_QEMU_HINT_FIXED_PORT = 11
GW_QEMU_HINT_NO_PREEMPT = 12
GW_QEMU_HINT_TLS = 13
GW_QEMU_HINT_NO_TLS = 14
GW_QEMU_HINT_TLS_HOSTNAME = 15
GW_QEMU_HINT_PROTECT_NAME = 16
GW_QEMU_HINT_STANDBY_NAME = 17
GW_QEMU_HINT_PROTECT_STOP = 18
GW_QEMU_HINT_MEMORY_ONLY = 19
GW_QEMU_HINT_PRIMARY_IS_DEAD = 20
GW_QEMU_HINT_NO_OUTPUT_COMMIT = 21
GW_QEMU_HINT_DISKS = 22
GW_QEMU_HINT_FENCE = 23
GW_QEMU_LOG_WARNING = 0
GW_QEMU_LOG_NOTE = 1
GW_QEMU_LOG_DETAIL = 2
GW_QEMU_SAVE_NOT_BEGUN = 0
GW_QEMU_SAVE_REFUSED = 1
GW_QEMU_SAVE_DONE = 2
GW_QEMU_SAVE_FAILED = 3
GW_QEMU_SAVE_NOT_PUT_BACK = 4
GW_QEMU_SAVE_KEPT = 5
GW_QEMU_SAVE_QEMU_GONE = 6
GW_QEMU_SAVE_PAUSED = 7
GW_QEMU_SAVE_UNKNOWN = 8
GW_QEMU_SAVE_HUNG = 9
GW_QEMU_SAVE_ABANDONED = 10
GW_QEMU_SAVE_ABANDONED_LEFT_OVER = 11
GW_QEMU_SAVE_ABANDONED_DOUBLE = 12
GW_QEMU_SAVE_NOT_ABANDONED = 13
GW_QEMU_SAVE_STREAM = 0
GW_QEMU_SAVE_AUTO = 1
GW_QEMU_SAVE_DIRECT = 2
GW_QEMU_RESTORE_AUTO = 0
GW_QEMU_RESTORE_DIRECT = 1
GW_QEMU_RESTORE_STREAM = 2
GW_QEMU_RESTORE_LAZY = 3
GW_QEMU_RESTORE_CLONE = 4
GW_QEMU_GUEST_NOT_BEGUN = 0
GW_QEMU_GUEST_REFUSED = 1
GW_QEMU_GUEST_NOT_HERE = 2
GW_QEMU_GUEST_DONE = 3
GW_QEMU_GUEST_ENDED = 4
GW_QEMU_GUEST_WAITS = 5
GW_QEMU_GUEST_UNKNOWN = 6
GW_QEMU_GUEST_IN_PRIMARY = 7
GW_QEMU_GUEST_PRIMARY_UNKNOWN = 8
GW_QEMU_GUEST_SILENT = 9
GW_QEMU_PROTECT_CONNECTING = 0
GW_QEMU_PROTECT_PROTECTED = 1
GW_QEMU_PROTECT_CHECKPOINT = 2
GW_QEMU_PROTECT_UNPROTECTED = 3
GW_QEMU_PROTECT_NOT_YET = 4
GW_QEMU_PROTECT_NOTE = 5
GW_QEMU_PROTECT_NOT_BEGUN = 0
GW_QEMU_PROTECT_REFUSED = 1
GW_QEMU_PROTECT_NEVER = 2
GW_QEMU_PROTECT_STOPPED = 3
GW_QEMU_PROTECT_SHUT_DOWN = 4
GW_QEMU_PROTECT_LOST = 5
GW_QEMU_PROTECT_IN_DOUBT = 6
GW_QEMU_WAS_PROTECTED = 0
GW_QEMU_WAS_UNPROTECTED = 1
GW_QEMU_WAS_LEFT = 2
GW_QEMU_DRAIN_NOT_BEGUN = 0
GW_QEMU_DRAIN_REFUSED = 1
GW_QEMU_DRAIN_DONE = 2
GW_QEMU_DRAIN_AGAIN = 3
GW_QEMU_DRAIN_NOT_SAFE = 4
GW_QEMU_DRAIN_NOT_READ = 5
GW_QEMU_DRAIN_SILENT = 6
GW_QEMU_DRAIN_QEMU_GONE = 7
GW_QEMU_USERFAULTFD_UNKNOWN = 0
GW_QEMU_USERFAULTFD_ALLOWED = 1
GW_QEMU_USERFAULTFD_FORBIDDEN = 2
GW_WHY_LEAVE = 0
GW_WHY_KEEP = 1
GW_WHY_ARRIVED = 2
GW_WHY_RETURNED = 3
GW_WHY_CHECKPOINT = 4
GW_WHY_FAILOVER = 5
GW_TRACKER_AUTO = 0
GW_TRACKER_OWN = 1
GW_TRACKER_TOLD = 2
GW_TRACKER_WRITES = 3
GW_HERE = 0
GW_EMPTY = 1
GW_ARRIVING = 2
GW_LEAVING = 3
GW_IN_DOUBT = 4
GW_GONE = 5
GW_STANDBY = 6
GW_PARTIAL = 7
GW_HELD = 8
GW_ORDER_FINISH = 0
GW_ORDER_CHECKPOINT = 1
GW_ORDER_FAILOVER = 2
GW_ORDER_POSTCOPY = 3
GW_GUEST_ROUND = 0
GW_GUEST_STOPPED = 1
GW_GUEST_RUNS = 2
GW_GUEST_RUNS_THERE = 3
GW_CONVERGE_STOP = 0
GW_CONVERGE_GIVE_UP = 1
GW_POSTCOPY_NEVER = 0
GW_POSTCOPY_IF_NEEDED = 1
GW_POSTCOPY_AFTER_ROUND = 2
GW_POSTCOPY_AT_ONCE = 3
GW_POSTCOPY_ON_ORDER = 4


class gw_progress(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("phase", c.c_uint),
        ("ram_bytes", c.c_uint64),
        ("moved_bytes", c.c_uint64),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("rounds", c.c_uint32),
    ]


gw_progress_fn = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_progress))


gw_trace_fn = c.CFUNCTYPE(None, c.c_void_p, c.c_char_p, c.c_char_p)


class gw_outcome(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("place", c.c_uint),
        ("next_step", c.c_uint),
        ("missing_pages", c.c_uint64),
        ("peer_notified", c.c_bool),
        ("committed", c.c_bool),
        ("exit_status", c.c_uint),
        ("message", c.c_char_p),
    ]


class gw_uri(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("family", c.c_uint),
        ("target", c.c_char * 4096),
        ("port", c.c_char * 32),
        ("port_to", c.c_uint16),
        ("cid", c.c_uint32),
        ("vsock_port", c.c_uint32),
        ("fd", c.c_int),
        ("offset", c.c_uint64),
        ("can_listen", c.c_bool),
        ("reason", c.c_char * 640),
    ]


class gw_tls_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("creds_dir", c.c_char_p),
        ("hostname", c.c_char_p),
        ("authz", c.c_char_p),
        ("priority", c.c_char_p),
        ("psk_name", c.c_char_p),
        ("no_verify", c.c_bool),
    ]


class gw_link_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("idle_timeout_ms", c.c_int),
        ("connect_timeout_ms", c.c_int),
        ("max_bandwidth", c.c_uint64),
        ("tls", c.POINTER(gw_tls_opts)),
        ("peer_uid", c.POINTER(c.c_uint32)),
    ]


class gw_whole_block(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("used_bytes", c.c_uint64),
    ]


class gw_whole(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("machine", c.c_char_p),
        ("run_state", c.c_uint),
        ("run_state_name", c.c_char_p),
        ("blocks", c.c_uint32),
        ("block", c.POINTER(gw_whole_block)),
    ]


class gw_receive_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("image_offset", c.c_uint64),
        ("memory_limit", c.c_uint64),
        ("channels", c.c_uint32),
        ("direct_io", c.c_bool),
        ("on_listening", c.CFUNCTYPE(None, c.c_void_p, c.c_char_p)),
        ("on_ready", c.CFUNCTYPE(c.c_int, c.c_void_p)),
        ("ctx", c.c_void_p),
        ("on_paused", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p, c.c_char_p)),
        ("resume", c.c_bool),
        ("without_source", c.c_bool),
        ("note", c.c_void_p),
        ("note_bytes", c.c_size_t),
        ("on_whole", c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(gw_whole))),
        ("on_source_notified", c.CFUNCTYPE(c.c_int, c.c_void_p)),
    ]


class gw_receive_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("stream_bytes", c.c_uint64),
        ("ram_bytes", c.c_uint64),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("xbzrle_pages", c.c_uint64),
        ("devices", c.c_uint32),
        ("rounds", c.c_uint32),
        ("source_notified", c.c_bool),
        ("background", c.c_bool),
        ("trailing_bytes", c.c_uint64),
        ("channels", c.c_uint32),
        ("multifd_bytes", c.c_uint64),
        ("postcopy", c.c_bool),
        ("recoverable", c.c_bool),
        ("was_complete", c.c_bool),
        ("host_crashed", c.c_bool),
        ("state", c.c_uint),
        ("missing_pages", c.c_uint64),
        ("breaks", c.c_uint32),
        ("postcopy_possible", c.c_bool),
        ("image_committed", c.c_bool),
        ("outcome", gw_outcome),
    ]


class gw_receive_file_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("image_offset", c.c_uint64),
        ("idle_timeout_ms", c.c_int),
        ("direct_io", c.c_bool),
        ("ctx", c.c_void_p),
        ("on_file", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_int)),
        ("on_poll", c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(gw_progress))),
        ("on_whole", c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(gw_whole))),
    ]


class gw_partial_info(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("machine", c.c_char * 1028),
        ("page_bytes", c.c_uint64),
        ("ram_bytes", c.c_uint64),
        ("blocks", c.c_uint32),
        ("missing_pages", c.c_uint64),
        ("device_bytes", c.c_uint64),
        ("image_offset", c.c_uint64),
        ("user_data_bytes", c.c_uint64),
        ("host_crashed", c.c_bool),
    ]


class gw_partial_info(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("machine", c.c_char * 1028),
        ("page_bytes", c.c_uint64),
        ("ram_bytes", c.c_uint64),
        ("blocks", c.c_uint32),
        ("missing_pages", c.c_uint64),
        ("device_bytes", c.c_uint64),
        ("image_offset", c.c_uint64),
        ("user_data_bytes", c.c_uint64),
        ("host_crashed", c.c_bool),
    ]


class gw_drain_block(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("used_bytes", c.c_uint64),
        ("page_bytes", c.c_uint64),
    ]


class gw_drain_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("machine", c.c_char_p),
        ("page_bytes", c.c_uint64),
        ("blocks", c.c_uint32),
        ("block", c.POINTER(gw_drain_block)),
        ("early_answer", c.c_bool),
        ("on_listening", c.CFUNCTYPE(None, c.c_void_p, c.c_char_p)),
        ("on_paused", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p, c.c_char_p)),
        ("ctx", c.c_void_p),
        ("note", c.c_void_p),
        ("note_bytes", c.c_size_t),
    ]


class gw_send_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("image_offset", c.c_uint64),
        ("answer_timeout_ms", c.c_int),
        ("channels", c.c_uint32),
        ("compression", c.c_uint),
        ("level", c.c_int),
        ("uuid", c.POINTER(c.c_uint8)),
        ("memory_limit", c.c_uint64),
        ("mapped_blocks", c.c_uint32),
        ("mapped_block", c.POINTER(c.c_char_p)),
    ]


class gw_serve_block(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("page_bytes", c.c_uint64),
    ]


class gw_serve_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("image_offset", c.c_uint64),
        ("resume", c.c_bool),
        ("answer_timeout_ms", c.c_int),
        ("blocks", c.c_uint32),
        ("block", c.POINTER(gw_serve_block)),
        ("on_connected", c.CFUNCTYPE(None, c.c_void_p)),
        ("ctx", c.c_void_p),
        ("preempt", c.c_uint),
        ("working_set", c.c_char_p),
        ("on_note", c.CFUNCTYPE(None, c.c_void_p, c.c_char_p)),
        ("on_socket", c.CFUNCTYPE(None, c.c_void_p, c.c_int)),
        ("on_guest_runs", c.CFUNCTYPE(None, c.c_void_p)),
        ("takeover_fd", c.c_bool),
    ]


class gw_serve_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("recoverable", c.c_bool),
        ("state", c.c_uint),
        ("requests", c.c_uint64),
        ("requested_pages", c.c_uint64),
        ("pushed_pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("already_there", c.c_uint64),
        ("latency_p50_us", c.c_uint64),
        ("latency_p99_us", c.c_uint64),
        ("latency_max_us", c.c_uint64),
        ("working_set_pages", c.c_uint64),
        ("outcome", gw_outcome),
    ]


class gw_proxy_fault(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("channel", c.c_char_p),
        ("direction", c.c_uint),
        ("amount", c.c_uint64),
        ("message", c.c_char_p),
    ]


class gw_proxy_field(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("text", c.c_char_p),
        ("number", c.c_uint64),
    ]


class gw_proxy_message(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("time_ns", c.c_uint64),
        ("connection", c.c_uint32),
        ("channel", c.c_char_p),
        ("direction", c.c_uint),
        ("off", c.c_uint64),
        ("bytes", c.c_uint64),
        ("name", c.c_char_p),
        ("text", c.c_char_p),
        ("fields", c.c_uint32),
        ("field", c.POINTER(gw_proxy_field)),
    ]


class gw_proxy_channel(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("connection", c.c_uint32),
        ("channel", c.c_char_p),
        ("bytes", c.c_uint64 * 2),
        ("messages", c.c_uint64 * 2),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("xbzrle_pages", c.c_uint64),
        ("packets", c.c_uint64),
        ("cut", c.c_bool),
    ]


class gw_proxy_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("keep", c.c_bool),
        ("every_page", c.c_bool),
        ("cut_all", c.c_bool),
        ("memory_limit", c.c_uint64),
        ("faults", c.c_uint32),
        ("fault", c.POINTER(gw_proxy_fault)),
        ("tap_dir", c.c_char_p),
        ("on_listening", c.CFUNCTYPE(None, c.c_void_p, c.c_char_p)),
        ("on_message", c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_proxy_message))),
        ("on_channel", c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_proxy_channel))),
        ("ctx", c.c_void_p),
    ]


class gw_proxy_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("connections", c.c_uint32),
        ("cuts", c.c_uint32),
        ("bytes", c.c_uint64 * 2),
        ("dropped_messages", c.c_uint64),
        ("outcome", c.c_uint),
        ("strangers", c.c_uint32),
        ("guest", gw_outcome),
    ]


class gw_inspect_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("offset", c.c_uint64),
        ("memory_limit", c.c_uint64),
        ("every_page", c.c_bool),
        ("working_set", c.c_char_p),
        ("clonable", c.c_bool),
        ("pages", c.c_bool),
        ("compare", c.c_char_p),
    ]


class gw_info_summary(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("format", c.c_uint),
        ("machine", c.c_char_p),
        ("run_state", c.c_uint),
        ("run_state_name", c.c_char_p),
        ("page_bytes", c.c_uint64),
        ("ram_bytes", c.c_uint64),
        ("begin_off", c.c_uint64),
        ("end_off", c.c_uint64),
        ("trailing_bytes", c.c_uint64),
        ("uuid", c.POINTER(c.c_uint8)),
        ("capabilities", c.c_uint32),
        ("blocks", c.c_uint32),
        ("devices", c.c_uint32),
        ("described", c.c_bool),
        ("switchover", c.c_bool),
        ("background", c.c_bool),
        ("return_path", c.c_bool),
        ("postcopy_advised", c.c_bool),
        ("rounds", c.c_uint32),
        ("warnings", c.c_uint32),
        ("page_bytes_stored", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("xbzrle_bytes", c.c_uint64),
        ("device_bytes", c.c_uint64),
        ("description_bytes", c.c_uint64),
        ("framing_bytes", c.c_uint64),
        ("memory_only", c.c_bool),
        ("fingerprint", c.c_char * 33),
        ("checkpoints", c.c_uint64),
        ("checkpoint_pages", c.c_uint64),
        ("checkpoint_zero_pages", c.c_uint64),
        ("checkpoint_bytes", c.c_uint64),
        ("clonable", c.c_bool),
        ("not_clonable", c.c_char_p),
        ("path", c.c_char_p),
    ]


class gw_info_summary(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("format", c.c_uint),
        ("machine", c.c_char_p),
        ("run_state", c.c_uint),
        ("run_state_name", c.c_char_p),
        ("page_bytes", c.c_uint64),
        ("ram_bytes", c.c_uint64),
        ("begin_off", c.c_uint64),
        ("end_off", c.c_uint64),
        ("trailing_bytes", c.c_uint64),
        ("uuid", c.POINTER(c.c_uint8)),
        ("capabilities", c.c_uint32),
        ("blocks", c.c_uint32),
        ("devices", c.c_uint32),
        ("described", c.c_bool),
        ("switchover", c.c_bool),
        ("background", c.c_bool),
        ("return_path", c.c_bool),
        ("postcopy_advised", c.c_bool),
        ("rounds", c.c_uint32),
        ("warnings", c.c_uint32),
        ("page_bytes_stored", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("xbzrle_bytes", c.c_uint64),
        ("device_bytes", c.c_uint64),
        ("description_bytes", c.c_uint64),
        ("framing_bytes", c.c_uint64),
        ("memory_only", c.c_bool),
        ("fingerprint", c.c_char * 33),
        ("checkpoints", c.c_uint64),
        ("checkpoint_pages", c.c_uint64),
        ("checkpoint_zero_pages", c.c_uint64),
        ("checkpoint_bytes", c.c_uint64),
        ("clonable", c.c_bool),
        ("not_clonable", c.c_char_p),
        ("path", c.c_char_p),
    ]


class gw_info_block(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("used_bytes", c.c_uint64),
        ("backing_page_bytes", c.c_uint64),
        ("address", c.c_uint64),
        ("ignored", c.c_bool),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("xbzrle_pages", c.c_uint64),
        ("bitmap_off", c.c_uint64),
        ("pages_off", c.c_uint64),
        ("working_set_pages", c.c_uint64),
        ("clonable", c.c_bool),
    ]


class gw_info_block(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("used_bytes", c.c_uint64),
        ("backing_page_bytes", c.c_uint64),
        ("address", c.c_uint64),
        ("ignored", c.c_bool),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("xbzrle_pages", c.c_uint64),
        ("bitmap_off", c.c_uint64),
        ("pages_off", c.c_uint64),
        ("working_set_pages", c.c_uint64),
        ("clonable", c.c_bool),
    ]


class gw_info_pages(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("present", c.c_uint64),
        ("working_set", c.c_uint64),
        ("differing", c.c_uint64),
    ]


class gw_info_pages(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("present", c.c_uint64),
        ("working_set", c.c_uint64),
        ("differing", c.c_uint64),
    ]


class gw_info_working_set(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("unused", c.c_char_p),
        ("pages", c.c_uint64),
        ("runs", c.c_uint64),
        ("begun", c.c_uint64),
        ("added", c.c_uint64),
        ("torn_bytes", c.c_uint64),
    ]


class gw_info_working_set(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("unused", c.c_char_p),
        ("pages", c.c_uint64),
        ("runs", c.c_uint64),
        ("begun", c.c_uint64),
        ("added", c.c_uint64),
        ("torn_bytes", c.c_uint64),
    ]


class gw_info_device(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("instance", c.c_uint32),
        ("version", c.c_uint32),
        ("off", c.c_uint64),
        ("bytes", c.c_uint64),
        ("early", c.c_bool),
        ("body", c.POINTER(c.c_uint8)),
    ]


class gw_info_device(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("instance", c.c_uint32),
        ("version", c.c_uint32),
        ("off", c.c_uint64),
        ("bytes", c.c_uint64),
        ("early", c.c_bool),
        ("body", c.POINTER(c.c_uint8)),
    ]


class gw_info_field(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("path", c.c_char_p),
        ("type", c.c_char_p),
        ("depth", c.c_uint),
        ("is_struct", c.c_bool),
        ("off", c.c_uint64),
        ("bytes", c.c_uint64),
        ("array_len", c.c_uint64),
    ]


class gw_info_field(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("path", c.c_char_p),
        ("type", c.c_char_p),
        ("depth", c.c_uint),
        ("is_struct", c.c_bool),
        ("off", c.c_uint64),
        ("bytes", c.c_uint64),
        ("array_len", c.c_uint64),
    ]


gw_difference_fn = c.CFUNCTYPE(c.c_bool, c.c_void_p, c.c_char_p)


class gw_convert_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("to", c.c_uint),
        ("block", c.c_char_p),
        ("from_offset", c.c_uint64),
        ("to_offset", c.c_uint64),
        ("memory_limit", c.c_uint64),
    ]


class gw_standby_event(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("vm", c.c_char_p),
        ("image", c.c_char_p),
        ("message", c.c_char_p),
        ("epoch", c.c_uint64),
        ("ram_bytes", c.c_uint64),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("device_bytes", c.c_uint64),
        ("pause_ns", c.c_uint64),
        ("merge_ns", c.c_uint64),
        ("memory_bytes", c.c_uint64),
        ("channels", c.c_uint32),
        ("outcome", gw_outcome),
    ]


class gw_standby_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("name", c.c_char_p),
        ("memory_limit", c.c_uint64),
        ("checkpoint_timeout_ms", c.c_int),
        ("channels", c.c_uint32),
        ("on_listening", c.CFUNCTYPE(None, c.c_void_p, c.c_char_p)),
        ("on_event", c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_standby_event))),
        ("ctx", c.c_void_p),
        ("on_boundary", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint64, c.c_char_p, c.c_size_t)),
        ("on_kept", c.CFUNCTYPE(None, c.c_void_p, c.c_uint64, c.c_bool)),
        ("durable", c.c_bool),
        ("history", c.c_uint64),
    ]


class gw_epoch(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("epoch", c.c_uint64),
        ("is_last", c.c_bool),
        ("bytes", c.c_uint64),
        ("time_ns", c.c_int64),
    ]


class gw_destination_block(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("used_bytes", c.c_uint64),
        ("max_bytes", c.c_uint64),
        ("unshared", c.c_bool),
        ("mapped", c.c_bool),
    ]


class gw_destination_device(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("address", c.c_char_p),
        ("type", c.c_char_p),
    ]


class gw_destination(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("machine", c.c_char_p),
        ("reads_images", c.c_bool),
        ("same_host", c.c_bool),
        ("blocks", c.c_uint32),
        ("block", c.POINTER(gw_destination_block)),
        ("accepts_ignored_blocks", c.c_bool),
        ("cpus", c.c_uint32),
        ("devices", c.c_uint32),
        ("device", c.POINTER(gw_destination_device)),
    ]


class gw_restore_plan(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("way", c.c_uint),
        ("reason", c.c_char * 512),
    ]


class gw_run_state_plan(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("after", c.c_uint),
        ("reason", c.c_char * 400),
    ]


class gw_rule(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("with", c.c_uint64),
        ("any", c.c_uint64),
        ("unless", c.c_uint64),
        ("operations", c.c_uint32),
        ("first", c.c_uint),
        ("last", c.c_uint),
        ("found", c.c_char_p),
        ("reason", c.c_char_p),
    ]


class gw_start_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("events", c.c_uint64),
    ]


class gw_event(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("wants_answer", c.c_bool),
        ("time_ns", c.c_uint64),
        ("name", c.c_char_p),
        ("text", c.c_char_p),
        ("uri", c.c_char_p),
        ("number", c.c_uint64),
        ("whole", c.POINTER(gw_whole)),
        ("message", c.POINTER(gw_proxy_message)),
        ("channel", c.POINTER(gw_proxy_channel)),
        ("standby", c.POINTER(gw_standby_event)),
        ("dropped", c.c_uint64),
    ]


gw_qemu_log_fn = c.CFUNCTYPE(None, c.c_void_p, c.c_uint, c.c_char_p)


class gw_qemu_rate(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("known", c.c_bool),
        ("remaining_bytes", c.c_uint64),
        ("dirty_bytes_per_s", c.c_uint64),
    ]


class gw_qemu_rate(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("known", c.c_bool),
        ("remaining_bytes", c.c_uint64),
        ("dirty_bytes_per_s", c.c_uint64),
    ]


class gw_qemu_guard_report(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("outcome", c.c_uint),
        ("monitor", c.c_char_p),
        ("path", c.c_char_p),
        ("error", c.c_char_p),
        ("guest", gw_outcome),
    ]


class gw_qemu_save_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("image_offset", c.c_uint64),
        ("memory_limit", c.c_uint64),
        ("max_bandwidth", c.c_uint64),
        ("page_bytes", c.c_uint64),
        ("idle_timeout_ms", c.c_int),
        ("stop", c.c_bool),
        ("at_start", c.c_bool),
        ("postcopy", c.c_bool),
        ("resume", c.c_bool),
        ("direct_io", c.c_bool),
        ("channels", c.c_uint32),
        ("compression", c.c_uint),
        ("level", c.c_int),
        ("listen", c.c_char_p),
        ("tls", c.POINTER(gw_tls_opts)),
        ("on_guard_end", c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(gw_qemu_guard_report))),
        ("ctx", c.c_void_p),
        ("way", c.c_uint),
    ]


class gw_qemu_save_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("outcome", c.c_uint),
        ("image_kept", c.c_bool),
        ("was_running", c.c_bool),
        ("running", c.c_bool),
        ("stopped", c.c_bool),
        ("state_kept", c.c_bool),
        ("recoverable", c.c_bool),
        ("resumed", c.c_bool),
        ("may_refuse", c.c_bool),
        ("run_state", c.c_char * 48),
        ("ram_bytes", c.c_uint64),
        ("stream_bytes", c.c_uint64),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("missing_pages", c.c_uint64),
        ("paused_us", c.c_uint64),
        ("rounds", c.c_uint32),
        ("way", c.c_uint),
        ("guest", gw_outcome),
    ]


class gw_qemu_postcopy_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("answer_timeout_ms", c.c_int),
        ("listen", c.c_char_p),
        ("connect", c.c_char_p),
        ("preempt", c.c_bool),
        ("working_set", c.c_char_p),
    ]


class gw_qemu_restore_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("way", c.c_uint),
        ("monitor", c.c_char_p),
        ("command", c.POINTER(c.c_char_p)),
        ("image_offset", c.c_uint64),
        ("memory_limit", c.c_uint64),
        ("max_bandwidth", c.c_uint64),
        ("idle_timeout_ms", c.c_int),
        ("owner_fd", c.POINTER(c.c_int)),
        ("channels", c.c_uint32),
        ("postcopy", c.POINTER(gw_qemu_postcopy_opts)),
    ]


class gw_qemu_restore_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("outcome", c.c_uint),
        ("way", c.c_uint),
        ("running", c.c_bool),
        ("qemu_ended", c.c_bool),
        ("started", c.c_bool),
        ("run_state", c.c_char * 48),
        ("monitor", c.c_char * 32),
        ("path", c.c_char_p),
        ("ram_bytes", c.c_uint64),
        ("elapsed_ns", c.c_uint64),
        ("guest", gw_outcome),
    ]


class gw_qemu_failover_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("restore", c.POINTER(gw_qemu_restore_opts)),
        ("primary_is_dead", c.c_bool),
        ("epoch", c.POINTER(c.c_uint64)),
        ("lease", c.c_char_p),
        ("fence", c.c_char_p),
        ("accept_split_brain", c.c_bool),
        ("storage_daemon", c.c_char_p),
    ]


class gw_qemu_serve_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("image_offset", c.c_uint64),
        ("memory_limit", c.c_uint64),
        ("resume_only", c.c_bool),
        ("postcopy", c.POINTER(gw_qemu_postcopy_opts)),
    ]


class gw_qemu_serve_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("outcome", c.c_uint),
        ("refused", c.c_bool),
        ("image_unreadable", c.c_bool),
        ("preempt", c.c_bool),
        ("requests", c.c_uint64),
        ("requested_pages", c.c_uint64),
        ("pushed_pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("already_there", c.c_uint64),
        ("working_set_pages", c.c_uint64),
        ("latency_p50_us", c.c_uint64),
        ("latency_p99_us", c.c_uint64),
        ("latency_max_us", c.c_uint64),
        ("guest", gw_outcome),
    ]


class gw_qemu_broker(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("answers", c.c_bool),
        ("pid", c.c_int32),
        ("server_pid", c.c_int32),
        ("monitor", c.c_char_p),
        ("path", c.c_char_p),
    ]


gw_qemu_broker_fn = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_qemu_broker))


class gw_qemu_protect_event(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("name", c.c_char_p),
        ("reason", c.c_char_p),
        ("hint", c.c_uint),
        ("checkpoints", c.c_uint64),
        ("pause_us", c.c_uint64),
        ("longest_us", c.c_uint64),
    ]


class gw_qemu_protect_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("dir", c.c_char_p),
        ("lease", c.c_char_p),
        ("watchdog", c.c_char_p),
        ("lease_term_ms", c.c_uint32),
        ("interval_ms", c.c_int),
        ("timeout_ms", c.c_int),
        ("silence_ms", c.c_int),
        ("max_bandwidth", c.c_uint64),
        ("channels", c.c_uint32),
        ("compression", c.c_uint),
        ("level", c.c_int),
        ("memory_only", c.c_bool),
        ("no_output_commit", c.c_bool),
        ("disks", c.c_char_p),
        ("unprotected_disks", c.POINTER(c.c_char_p)),
        ("unprotected_n", c.c_uint32),
        ("on_event", c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_qemu_protect_event))),
        ("on_release", c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_char_p)),
        ("ctx", c.c_void_p),
    ]


class gw_qemu_protect_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("outcome", c.c_uint),
        ("name", c.c_char * 256),
        ("guest", gw_outcome),
    ]


class gw_qemu_drain_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("listen", c.c_char_p),
    ]


class gw_qemu_drain_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("outcome", c.c_uint),
        ("ram_bytes", c.c_uint64),
        ("page_bytes_stored", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("breaks", c.c_uint32),
        ("guest", gw_outcome),
    ]


class gw_guest_ops(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("pause", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint)),
        ("resume", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint)),
    ]


class gw_guest_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("machine", c.c_char_p),
        ("has_uuid", c.c_bool),
        ("uuid", c.c_uint8 * 16),
        ("page_bytes", c.c_uint64),
        ("uffd", c.POINTER(c.c_int)),
        ("tracker", c.c_uint),
        ("dirty_start", c.CFUNCTYPE(c.c_int, c.c_void_p)),
        ("dirty_take", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p, c.c_uint64, c.c_uint64, c.POINTER(c.c_uint64))),
        ("dirty_stop", c.CFUNCTYPE(None, c.c_void_p)),
        ("empty", c.c_bool),
    ]


class gw_block(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("host", c.c_void_p),
        ("bytes", c.c_uint64),
        ("page_bytes", c.c_uint64),
        ("fd", c.POINTER(c.c_int)),
        ("fd_offset", c.c_uint64),
    ]


class gw_device(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("name", c.c_char_p),
        ("instance", c.c_uint32),
        ("version", c.c_uint32),
        ("oldest", c.c_uint32),
        ("optional", c.c_bool),
        ("save", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p)),
        ("load", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint32, c.POINTER(c.c_uint8), c.c_size_t)),
        ("ctx", c.c_void_p),
    ]


class gw_limits(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("downtime_ms", c.c_uint32),
        ("checkpoint_ms", c.c_uint32),
    ]


class gw_guest_event(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_uint),
        ("time_ns", c.c_uint64),
        ("round", c.c_uint64),
        ("dirty_pages", c.c_uint64),
        ("sent_bytes", c.c_uint64),
        ("bandwidth", c.c_uint64),
        ("downtime_ns", c.c_uint64),
    ]


gw_guest_event_fn = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_guest_event))


class gw_guest_result(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("where", c.c_uint),
        ("total_ns", c.c_uint64),
        ("downtime_ns", c.c_uint64),
        ("moved_bytes", c.c_uint64),
        ("pages", c.c_uint64),
        ("zero_pages", c.c_uint64),
        ("rounds", c.c_uint32),
        ("channels", c.c_uint32),
        ("bandwidth", c.c_uint64),
        ("dirty_rate", c.c_uint64),
        ("hook_failed", c.c_bool),
        ("outcome", gw_outcome),
        ("epochs", c.c_uint64),
        ("epoch_pages_max", c.c_uint64),
        ("pause_p50_us", c.c_uint64),
        ("pause_p99_us", c.c_uint64),
        ("pause_max_us", c.c_uint64),
        ("requests", c.c_uint64),
        ("missing_pages", c.c_uint64),
        ("postcopy", c.c_bool),
        ("requested_pages", c.c_uint64),
        ("pushed_pages", c.c_uint64),
        ("already_there", c.c_uint64),
        ("latency_p50_us", c.c_uint64),
        ("latency_p99_us", c.c_uint64),
        ("latency_max_us", c.c_uint64),
        ("xbzrle_pages", c.c_uint64),
        ("xbzrle_bytes", c.c_uint64),
    ]


class gw_guest_send_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("channels", c.c_uint32),
        ("compression", c.c_uint),
        ("level", c.c_int),
        ("limits", c.POINTER(gw_limits)),
        ("converge", c.c_uint),
        ("patience", c.c_uint32),
        ("give_up_ms", c.c_uint32),
        ("no_confirm", c.c_bool),
        ("answer_timeout_ms", c.c_int),
        ("memory_limit", c.c_uint64),
        ("postcopy", c.c_uint),
        ("resume", c.c_bool),
        ("xbzrle_cache", c.c_uint64),
        ("preempt", c.c_bool),
    ]


class gw_guest_receive_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("channels", c.c_uint32),
        ("stay_paused", c.c_bool),
        ("memory_limit", c.c_uint64),
        ("on_listening", c.CFUNCTYPE(None, c.c_void_p, c.c_char_p)),
        ("ctx", c.c_void_p),
        ("lazy", c.c_bool),
        ("user_mode", c.c_bool),
        ("uffd", c.POINTER(c.c_int)),
        ("on_paused", c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p, c.c_char_p)),
        ("resume", c.c_bool),
    ]


class gw_guest_save_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("image_offset", c.c_uint64),
        ("stop", c.c_bool),
        ("direct_io", c.c_bool),
        ("limits", c.POINTER(gw_limits)),
        ("memory_limit", c.c_uint64),
    ]


class gw_guest_restore_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("image_offset", c.c_uint64),
        ("stay_paused", c.c_bool),
        ("memory_limit", c.c_uint64),
        ("lazy", c.c_bool),
        ("user_mode", c.c_bool),
        ("uffd", c.POINTER(c.c_int)),
        ("resume", c.c_bool),
    ]


class gw_guest_epoch(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("number", c.c_uint64),
        ("pages", c.c_uint64),
        ("pause_us", c.c_uint64),
        ("commit_us", c.c_uint64),
        ("flushed_pages", c.c_uint64),
        ("taken_back_pages", c.c_uint64),
    ]


gw_guest_epoch_fn = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_guest_epoch))


class gw_guest_protect_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("channels", c.c_uint32),
        ("compression", c.c_uint),
        ("level", c.c_int),
        ("limits", c.POINTER(gw_limits)),
        ("standby_timeout_ms", c.c_int),
        ("copy_limit", c.c_uint64),
        ("old_dialect", c.c_bool),
        ("memory_limit", c.c_uint64),
        ("on_committed", gw_guest_epoch_fn),
        ("ctx", c.c_void_p),
    ]


class gw_guest_standby_opts(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("link", c.POINTER(gw_link_opts)),
        ("channels", c.c_uint32),
        ("hot", c.c_bool),
        ("epoch_limit", c.c_uint64),
        ("memory_limit", c.c_uint64),
        ("on_listening", c.CFUNCTYPE(None, c.c_void_p, c.c_char_p)),
        ("on_epoch", gw_guest_epoch_fn),
        ("may_run", c.CFUNCTYPE(c.c_int, c.c_void_p)),
        ("ctx", c.c_void_p),
    ]


# name: (its result, its arguments)
FUNCTIONS = {
    "gw_version": (c.c_char_p, []),
    "gw_version_check": (c.c_int, [c.c_uint, c.c_uint, c.c_uint]),
    "gw_job_new": (c.c_int, [c.POINTER(c.c_void_p)]),
    "gw_job_free": (None, [c.c_void_p]),
    "gw_job_error": (c.c_char_p, [c.c_void_p]),
    "gw_job_warning": (c.c_char_p, [c.c_void_p, c.c_uint32]),
    "gw_job_page_size": (c.c_int, [c.c_void_p, c.c_uint64]),
    "gw_job_usual_page_size": (c.c_int, [c.c_void_p, c.c_uint64]),
    "gw_job_cancel": (None, [c.c_void_p]),
    "gw_job_reset": (c.c_int, [c.c_void_p]),
    "gw_migration_state_name": (c.c_char_p, [c.c_uint32]),
    "gw_run_state_name": (c.c_char_p, [c.c_uint32]),
    "gw_run_state_find": (c.c_uint, [c.c_char_p]),
    "gw_job_progress": (c.c_int, [c.c_void_p, c.POINTER(gw_progress)]),
    "gw_job_on_progress": (c.c_int, [c.c_void_p, gw_progress_fn, c.c_void_p]),
    "gw_job_on_trace": (c.c_int, [c.c_void_p, gw_trace_fn, c.c_void_p]),
    "gw_place_name": (c.c_char_p, [c.c_uint32]),
    "gw_next_step_name": (c.c_char_p, [c.c_uint32]),
    "gw_job_outcome": (c.c_int, [c.c_void_p, c.POINTER(gw_outcome)]),
    "gw_outcome_at": (c.c_int, [c.POINTER(gw_outcome), c.c_uint]),
    "gw_outcome_note": (c.c_int, [c.POINTER(gw_outcome), c.c_uint]),
    "gw_uri_parse": (c.c_int, [c.c_char_p, c.POINTER(gw_uri)]),
    "gw_receive": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_receive_opts), c.POINTER(gw_receive_result)]),
    "gw_receive_fd": (c.c_int, [c.c_void_p, c.c_int, c.c_char_p, c.POINTER(gw_receive_opts), c.POINTER(gw_receive_result)]),
    "gw_receive_file": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(gw_receive_file_opts), c.POINTER(gw_receive_result)]),
    "gw_partial_info": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(gw_partial_info)]),
    "gw_partial_user_data": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(c.c_void_p), c.POINTER(c.c_size_t)]),
    "gw_partial_drop": (c.c_int, [c.c_void_p, c.c_char_p]),
    "gw_drain": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_drain_opts), c.POINTER(gw_receive_result)]),
    "gw_drain_fd": (c.c_int, [c.c_void_p, c.c_int, c.c_char_p, c.POINTER(gw_drain_opts), c.POINTER(gw_receive_result)]),
    "gw_source_rollback": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(gw_drain_opts)]),
    "gw_partial_source_rollback": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_receive_opts)]),
    "gw_send": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_send_opts)]),
    "gw_send_fd": (c.c_int, [c.c_void_p, c.c_char_p, c.c_int, c.POINTER(gw_send_opts)]),
    "gw_serve": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_serve_opts), c.POINTER(gw_serve_result)]),
    "gw_serve_fd": (c.c_int, [c.c_void_p, c.c_char_p, c.c_int, c.POINTER(gw_serve_opts), c.POINTER(gw_serve_result)]),
    "gw_proxy": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_proxy_opts), c.POINTER(gw_proxy_result)]),
    "gw_inspect": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(gw_inspect_opts), c.POINTER(c.c_void_p)]),
    "gw_info_free": (None, [c.c_void_p]),
    "gw_info_summary": (c.c_int, [c.c_void_p, c.POINTER(gw_info_summary)]),
    "gw_info_capability": (c.c_char_p, [c.c_void_p, c.c_uint32]),
    "gw_info_warning": (c.c_char_p, [c.c_void_p, c.c_uint32]),
    "gw_info_block": (c.c_int, [c.c_void_p, c.c_uint32, c.POINTER(gw_info_block)]),
    "gw_info_pages": (c.c_int, [c.c_void_p, c.c_uint32, c.c_uint64, c.c_uint64, c.POINTER(gw_info_pages)]),
    "gw_info_difference": (c.c_char_p, [c.c_void_p, c.c_uint32]),
    "gw_info_working_set": (c.c_int, [c.c_void_p, c.POINTER(gw_info_working_set)]),
    "gw_info_device": (c.c_int, [c.c_void_p, c.c_uint32, c.POINTER(gw_info_device)]),
    "gw_info_field": (c.c_int, [c.c_void_p, c.c_uint32, c.c_uint32, c.POINTER(gw_info_field)]),
    "gw_compare": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, gw_difference_fn, c.c_void_p]),
    "gw_convert": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_convert_opts)]),
    "gw_standby": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_standby_opts)]),
    "gw_standby_recover": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(c.c_uint64)]),
    "gw_standby_history": (c.c_int, [c.c_void_p, c.c_char_p, c.CFUNCTYPE(None, c.c_void_p, c.POINTER(gw_epoch)), c.c_void_p]),
    "gw_standby_export": (c.c_int, [c.c_void_p, c.c_char_p, c.c_uint64, c.c_char_p]),
    "gw_plan_restore": (c.c_int, [c.c_void_p, c.POINTER(gw_destination), c.POINTER(gw_restore_plan)]),
    "gw_plan_run_state": (c.c_int, [c.c_uint, c.c_uint, c.c_bool, c.POINTER(gw_run_state_plan)]),
    "gw_plan_operation": (c.c_char_p, [c.c_uint32]),
    "gw_plan_ability": (c.c_char_p, [c.c_uint32]),
    "gw_plan_rule": (c.c_int, [c.c_uint32, c.POINTER(gw_rule)]),
    "gw_plan_combination": (c.c_int, [c.c_uint, c.POINTER(c.c_char_p), c.c_uint, c.POINTER(gw_rule)]),
    "gw_job_start": (c.c_int, [c.c_void_p, c.POINTER(gw_start_opts)]),
    "gw_job_fd": (c.c_int, [c.c_void_p]),
    "gw_job_next_event": (c.c_int, [c.c_void_p, c.POINTER(gw_event)]),
    "gw_job_answer": (c.c_int, [c.c_void_p, c.c_int]),
    "gw_job_wait": (c.c_int, [c.c_void_p, c.c_int, c.POINTER(c.c_int)]),
    "gw_qemu_new": (c.c_int, [c.c_void_p, c.POINTER(c.c_void_p)]),
    "gw_qemu_free": (None, [c.c_void_p]),
    "gw_qemu_error": (c.c_char_p, [c.c_void_p]),
    "gw_qemu_hint": (c.c_uint, [c.c_void_p]),
    "gw_qemu_cancel": (None, [c.c_void_p, c.c_char_p]),
    "gw_qemu_on_log": (None, [c.c_void_p, gw_qemu_log_fn, c.c_void_p]),
    "gw_qemu_rate": (c.c_int, [c.c_void_p, c.POINTER(gw_qemu_rate)]),
    "gw_qemu_save": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_qemu_save_opts), c.POINTER(gw_qemu_save_result)]),
    "gw_qemu_save_abandon": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_qemu_save_result)]),
    "gw_qemu_restore": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(gw_qemu_restore_opts), c.POINTER(gw_qemu_restore_result)]),
    "gw_qemu_wait": (c.c_int, [c.c_void_p, c.POINTER(c.c_int)]),
    "gw_qemu_failover": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(gw_qemu_failover_opts), c.POINTER(gw_qemu_restore_result)]),
    "gw_qemu_serve": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_qemu_serve_opts), c.POINTER(gw_qemu_serve_result)]),
    "gw_qemu_brokers": (None, [gw_qemu_broker_fn, c.c_void_p]),
    "gw_qemu_protect": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_qemu_protect_opts), c.POINTER(gw_qemu_protect_result)]),
    "gw_qemu_protect_stop": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(c.c_uint)]),
    "gw_qemu_disks_new": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.c_char_p, c.c_bool, c.c_uint32, c.POINTER(c.c_void_p)]),
    "gw_qemu_disks_free": (None, [c.c_void_p]),
    "gw_qemu_disks_event": (None, [c.c_void_p, c.POINTER(gw_standby_event)]),
    "gw_qemu_disks_boundary": (c.c_int, [c.c_void_p, c.c_uint64, c.c_char_p, c.c_size_t]),
    "gw_qemu_disks_end": (None, [c.c_void_p, c.c_uint64, c.c_bool]),
    "gw_qemu_drain": (c.c_int, [c.c_void_p, c.c_char_p, c.c_char_p, c.POINTER(gw_qemu_drain_opts), c.POINTER(gw_qemu_drain_result)]),
    "gw_qemu_plan_restore": (c.c_int, [c.c_void_p, c.c_char_p, c.c_void_p, c.c_bool, c.POINTER(gw_restore_plan)]),
    "gw_qemu_may_userfaultfd": (c.c_int, [c.c_void_p, c.c_char_p, c.POINTER(c.c_uint), c.POINTER(c.c_uint32)]),
    "gw_guest_new": (c.c_int, [c.POINTER(c.c_void_p), c.POINTER(gw_guest_ops), c.POINTER(gw_guest_opts), c.c_void_p]),
    "gw_guest_free": (c.c_int, [c.c_void_p]),
    "gw_guest_error": (c.c_char_p, [c.c_void_p]),
    "gw_guest_add_block": (c.c_int, [c.c_void_p, c.POINTER(gw_block)]),
    "gw_guest_remove_block": (c.c_int, [c.c_void_p, c.c_char_p]),
    "gw_out_write": (c.c_int, [c.c_void_p, c.c_void_p, c.c_size_t]),
    "gw_guest_add_device": (c.c_int, [c.c_void_p, c.POINTER(gw_device)]),
    "gw_guest_remove_device": (c.c_int, [c.c_void_p, c.c_char_p, c.c_uint32]),
    "gw_guest_dirty": (c.c_int, [c.c_void_p, c.c_char_p, c.c_uint64, c.c_uint64]),
    "gw_guest_discard": (c.c_int, [c.c_void_p, c.c_char_p, c.c_uint64, c.c_uint64]),
    "gw_guest_tracker": (c.c_char_p, [c.c_void_p]),
    "gw_guest_where": (c.c_uint, [c.c_void_p]),
    "gw_guest_where_name": (c.c_char_p, [c.c_uint32]),
    "gw_guest_decide": (c.c_int, [c.c_void_p, c.c_bool]),
    "gw_job_limits": (c.c_int, [c.c_void_p, c.POINTER(gw_limits)]),
    "gw_job_order": (c.c_int, [c.c_void_p, c.c_uint]),
    "gw_job_on_guest_event": (c.c_int, [c.c_void_p, gw_guest_event_fn, c.c_void_p]),
    "gw_guest_send": (c.c_int, [c.c_void_p, c.c_void_p, c.c_char_p, c.POINTER(gw_guest_send_opts), c.POINTER(gw_guest_result)]),
    "gw_guest_receive": (c.c_int, [c.c_void_p, c.c_void_p, c.c_char_p, c.POINTER(gw_guest_receive_opts), c.POINTER(gw_guest_result)]),
    "gw_guest_save": (c.c_int, [c.c_void_p, c.c_void_p, c.c_char_p, c.POINTER(gw_guest_save_opts), c.POINTER(gw_guest_result)]),
    "gw_guest_restore": (c.c_int, [c.c_void_p, c.c_void_p, c.c_char_p, c.POINTER(gw_guest_restore_opts), c.POINTER(gw_guest_result)]),
    "gw_guest_protect": (c.c_int, [c.c_void_p, c.c_void_p, c.c_char_p, c.POINTER(gw_guest_protect_opts), c.POINTER(gw_guest_result)]),
    "gw_guest_standby": (c.c_int, [c.c_void_p, c.c_void_p, c.c_char_p, c.POINTER(gw_guest_standby_opts), c.POINTER(gw_guest_result)]),
}
