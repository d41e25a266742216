/* SPDX-License-Identifier: MIT */
/*
 * The public structs that begin with their size, as one table: a size that was forgotten, or fields from a newer program that this library
 * does not know, are found before anything is done. What a field means is not judged here. Pure: any thread.
 */
#ifndef GW_LIB_OPTS_H
#define GW_LIB_OPTS_H

#include "godwit-unstable.h"
#include "godwit.h"

#include "base/error.h"

/*
 * OPTS: the caller fills it in. LINKED: so too, and `field` points to another one, which is checked with it. RESULT: we fill it in.
 * What only we make, for a callback, is not here (tests/unit/test_opts.c names those).
 */
#define GW__STRUCTS(OPTS, LINKED, RESULT)                                                                                                  \
	OPTS(gw_tls_opts)                                                                                                                  \
	LINKED(gw_link_opts, tls, gw_tls_opts)                                                                                             \
	LINKED(gw_receive_opts, link, gw_link_opts)                                                                                        \
	OPTS(gw_receive_file_opts)                                                                                                         \
	LINKED(gw_drain_opts, link, gw_link_opts)                                                                                          \
	LINKED(gw_send_opts, link, gw_link_opts)                                                                                           \
	LINKED(gw_serve_opts, link, gw_link_opts)                                                                                          \
	LINKED(gw_standby_opts, link, gw_link_opts)                                                                                        \
	LINKED(gw_proxy_opts, link, gw_link_opts)                                                                                          \
	OPTS(gw_inspect_opts)                                                                                                              \
	OPTS(gw_convert_opts)                                                                                                              \
	OPTS(gw_destination)                                                                                                               \
	OPTS(gw_destination_block)                                                                                                         \
	OPTS(gw_destination_device)                                                                                                        \
	OPTS(gw_drain_block)                                                                                                               \
	OPTS(gw_serve_block)                                                                                                               \
	OPTS(gw_proxy_fault)                                                                                                               \
	OPTS(gw_start_opts)                                                                                                                \
	OPTS(gw_guest_ops)                                                                                                                 \
	OPTS(gw_guest_opts)                                                                                                                \
	OPTS(gw_block)                                                                                                                     \
	OPTS(gw_limits)                                                                                                                    \
	LINKED(gw_guest_send_opts, link, gw_link_opts)                                                                                     \
	LINKED(gw_guest_receive_opts, link, gw_link_opts)                                                                                  \
	LINKED(gw_guest_save_opts, limits, gw_limits)                                                                                      \
	OPTS(gw_guest_restore_opts)                                                                                                        \
	LINKED(gw_guest_protect_opts, link, gw_link_opts)                                                                                  \
	LINKED(gw_guest_standby_opts, link, gw_link_opts)                                                                                  \
	RESULT(gw_guest_result)                                                                                                            \
	OPTS(gw_device)                                                                                                                    \
	RESULT(gw_event)                                                                                                                   \
	RESULT(gw_progress)                                                                                                                \
	RESULT(gw_uri)                                                                                                                     \
	RESULT(gw_partial_info)                                                                                                            \
	RESULT(gw_outcome)                                                                                                                 \
	RESULT(gw_receive_result)                                                                                                          \
	RESULT(gw_serve_result)                                                                                                            \
	RESULT(gw_proxy_result)                                                                                                            \
	RESULT(gw_info_summary)                                                                                                            \
	RESULT(gw_info_block)                                                                                                              \
	RESULT(gw_info_pages)                                                                                                              \
	RESULT(gw_info_working_set)                                                                                                        \
	RESULT(gw_info_field)                                                                                                              \
	RESULT(gw_info_device)                                                                                                             \
	RESULT(gw_restore_plan)                                                                                                            \
	RESULT(gw_run_state_plan)                                                                                                          \
	RESULT(gw_rule)

/* Arrays in them: `count` elements at `field`. */
#define GW__STRUCT_ARRAYS(ARRAY)                                                                                                           \
	ARRAY(gw_drain_opts, blocks, block, gw_drain_block)                                                                                \
	ARRAY(gw_serve_opts, blocks, block, gw_serve_block)                                                                                \
	ARRAY(gw_proxy_opts, faults, fault, gw_proxy_fault)                                                                                \
	ARRAY(gw_destination, blocks, block, gw_destination_block)                                                                         \
	ARRAY(gw_destination, devices, device, gw_destination_device)

/* Enums in what the caller fills in, with the last value there is. */
#define GW__STRUCT_ENUMS(ENUM)                                                                                                             \
	ENUM(gw_send_opts, compression, GW_COMPRESS_ZSTD)                                                                                  \
	ENUM(gw_serve_opts, preempt, GW_PREEMPT_EARLY)                                                                                     \
	ENUM(gw_guest_send_opts, compression, GW_COMPRESS_ZSTD)                                                                            \
	ENUM(gw_guest_protect_opts, compression, GW_COMPRESS_ZSTD)                                                                         \
	ENUM(gw_guest_send_opts, converge, GW_CONVERGE_GIVE_UP)                                                                            \
	ENUM(gw_guest_send_opts, postcopy, GW_POSTCOPY_ON_ORDER)                                                                           \
	ENUM(gw_guest_opts, tracker, GW_TRACKER_WRITES)                                                                                    \
	ENUM(gw_proxy_fault, kind, GW_PROXY_RATE)                                                                                          \
	ENUM(gw_proxy_fault, direction, GW_PROXY_RETURN)                                                                                   \
	ENUM(gw_convert_opts, to, GW_FORMAT_RAW)

#define GW__STRUCT_ID(s)                      GW__STRUCT_##s,
#define GW__STRUCT_ID_LINKED(s, field, inner) GW__STRUCT_##s,
enum gw__struct_id { GW__STRUCTS(GW__STRUCT_ID, GW__STRUCT_ID_LINKED, GW__STRUCT_ID) GW__STRUCTS_N };

enum { GW__STRUCT_BYTES_MAX = 16384 }; /* a size above it was never set */

/*
 * NULL is fine. -EINVAL: its size is none, or that of an element of an array is not that of the first, or there is no array, or an enum has a value it
 * does not have. -E2BIG: it is from a newer program and asks for something this library does not know; of a result
 * that is no failure. `error` may be NULL.
 */
int gw__struct_check(enum gw__struct_id id, const void *given, struct gw__error *error);

/* clang-format off */
#define GW__STRUCT_IS(s) struct s *: GW__STRUCT_##s, const struct s *: GW__STRUCT_##s,
#define GW__STRUCT_IS_LINKED(s, field, inner) GW__STRUCT_IS(s)
#define GW__CHECK(given, error) \
	gw__struct_check(_Generic((given), GW__STRUCTS(GW__STRUCT_IS, GW__STRUCT_IS_LINKED, GW__STRUCT_IS) default: GW__STRUCTS_N), given, error)
/* clang-format on */

#endif
