/* SPDX-License-Identifier: MIT */
/* States of the planner as those of godwit.h. Pure: any thread. */
#ifndef GW_LIB_STATES_H
#define GW_LIB_STATES_H

#include "godwit.h"

#include "plan/postcopy_dst.h"
#include "plan/postcopy_src.h"

enum gw_migration_state gw__migration_state_of_destination(enum gw__postcopy_dst_state state);
enum gw_migration_state gw__migration_state_of_source(enum gw__postcopy_src_state state);

#endif
