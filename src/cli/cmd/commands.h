/* SPDX-License-Identifier: MIT */
/* The commands: each parses its own options, does its work and returns the exit status (enum gw__exit). */
#ifndef GW_CLI_CMD_COMMANDS_H
#define GW_CLI_CMD_COMMANDS_H

typedef int gw__cli_command_fn(int argc, char **argv);

gw__cli_command_fn gw__cli_save;
gw__cli_command_fn gw__cli_restore;
gw__cli_command_fn gw__cli_serve;
gw__cli_command_fn gw__cli_receive, gw__cli_send, gw__cli_drain;
gw__cli_command_fn gw__cli_standby, gw__cli_protect, gw__cli_failover, gw__cli_top;
gw__cli_command_fn gw__cli_inspect, gw__cli_verify, gw__cli_convert;
gw__cli_command_fn gw__cli_proxy;
gw__cli_command_fn gw__cli_guest;
gw__cli_command_fn gw__cli_plan, gw__cli_doctor;

#endif
