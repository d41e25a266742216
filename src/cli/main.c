/* SPDX-License-Identifier: MIT */
/* The `godwit` command: finds the command that is meant and ends with its status. What each does is in its
 * own file. */
#include <fcntl.h>
#include <godwit.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/math.h"
#include "cli/cmd/commands.h"
#include "cli/ui/output.h"

static const struct {
	const char *name, *summary;
	gw__cli_command_fn *run;
	bool prints; /* its output is its result: losing it is a failure */
} commands[] = {
	{"save", "keep a running QEMU's guest in an image", gw__cli_save, false},
	{"restore", "load a kept guest into a QEMU", gw__cli_restore, false},
	{"serve", "let a QEMU run a kept guest immediately and load its memory while it runs", gw__cli_serve, false},
	{"receive", "wait for one incoming migration and keep the guest", gw__cli_receive, false},
	{"drain", "take the memory of a post-copy source whose destination cannot be reached", gw__cli_drain, false},
	{"standby", "keep the last checkpoint of guests that run elsewhere", gw__cli_standby, false},
	{"protect", "send checkpoints of a running QEMU's guest to a standby", gw__cli_protect, false},
	{"failover", "run a protected guest whose primary is dead", gw__cli_failover, false},
	{"top", "show the guests in a standby's folder, updated every second", gw__cli_top, true},
	{"send", "give a kept guest to a waiting destination", gw__cli_send, false},
	{"inspect", "show what an image or a stream holds", gw__cli_inspect, true},
	{"verify", "check that a kept guest is whole, or that two are the same", gw__cli_verify, true},
	{"convert", "make an image, a stream or raw memory of a kept guest", gw__cli_convert, false},
	{"proxy", "forward a migration; print, cut, slow or record it", gw__cli_proxy, true},
	{"guest", "run, send and check a test guest", gw__cli_guest, true},
	{"plan", "print how a kept guest would be restored, or why not", gw__cli_plan, true},
	{"doctor", "check what this machine offers, and how to get the rest", gw__cli_doctor, true},
};

static void print_overview(void)
{
	gw__ui_print("usage: godwit COMMAND [arguments and options]\n"
		     "\n"
		     "Moves, keeps and protects running virtual machines, with an unmodified QEMU.\n"
		     "\n"
		     "commands:\n");
	for (unsigned i = 0; i < GW__LEN(commands); i++)
		gw__ui_print("  %-10s %s\n", commands[i].name, commands[i].summary);
	gw__ui_print("\n"
		     "  help       print this text, or the help of a command: godwit help COMMAND\n"
		     "\n"
		     "options:\n"
		     "  -h, --help    print this text\n"
		     "      --version print the version\n"
		     "\n"
		     "exit status: 0 done; 1 failed, the message says where the guest is; 2 wrong use; 3 "
		     "refused;\n"
		     "4 in doubt, see the message; 5 split or paused, recovery possible; 6 different "
		     "(verify A B)\n"
		     "\n"
		     "link broke in post-copy: see RESCUE.md in the documentation\n");
}

static int run(int argc, char **argv)
{
	for (unsigned i = 0; i < GW__LEN(commands); i++) {
		if (strcmp(argv[0], commands[i].name))
			continue;
		int status = commands[i].run(argc, argv);
		bool whole = gw__cli_output_whole();
		return status == GW__EXIT_DONE && commands[i].prints && !whole ? GW__EXIT_FAILED : status;
	}
	return gw__ui_error(GW__EXIT_USAGE, "there is no command \"%s\"; godwit help lists the commands", argv[0]);
}

static int help(int argc, char **argv)
{
	if (argc > 1) {
		char flag[] = "--help", *words[] = {argv[1], flag, NULL};
		return run(2, words);
	}
	print_overview();
	return gw__cli_output_whole() ? GW__EXIT_DONE : GW__EXIT_FAILED;
}

static void ignore(int number) {}

/*
 * A reader of our output that leaves must not kill us in the middle of keeping a guest. A handler, unlike
 * SIG_IGN, is not inherited by the programs we start.
 */
static void survive_broken_pipes(void)
{
	struct sigaction a = {.sa_handler = ignore, .sa_flags = SA_RESTART};
	sigemptyset(&a.sa_mask);
	sigaction(SIGPIPE, &a, NULL);
}

/* Or the first file we open would take the place of a closed standard stream and receive its text. */
static bool standard_streams_open(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_WRONLY : O_RDONLY) < 0)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	if (!standard_streams_open())
		return GW__EXIT_FAILED;
	survive_broken_pipes();
	if (argc < 2) {
		gw__ui_error(0, "which command? godwit help lists them");
		return GW__EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--version")) {
		gw__ui_print("godwit %s\n", gw_version());
		return gw__cli_output_whole() ? GW__EXIT_DONE : GW__EXIT_FAILED;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help(1, argv);
	if (!strcmp(argv[1], "help"))
		return help(argc - 1, argv + 1);
	if (argv[1][0] == '-')
		return gw__ui_error(GW__EXIT_USAGE, "options come after the command: godwit COMMAND %s ...", argv[1]);
	return run(argc - 1, argv + 1);
}
