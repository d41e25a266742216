/* SPDX-License-Identifier: MIT */
/*
 * Certificates for tests, made while they run: a folder of folders, each laid out as QEMU wants it for its
 * TLS credentials (docs/spec/channels.md 4.2). Knows GnuTLS, nothing of Godwit. One thread.
 *
 * - good: ca-cert, server-* (CERTS_HOST, localhost, 127.0.0.1, ::1) and client-* (CERTS_CLIENT), of one CA
 * - wrong-host: good, but the server is "elsewhere.example"
 * - odd-names: good, but the server's names are "a\e[31mb" and "\xff\xff"
 * - many-names: good, but the server has 40 names, "name-00.example" and so on
 * - name-in-cn: good, but the server's name stands in its subject only
 * - other-ca: everything from another CA
 * - bundle-of-other: the same, with the CA of good in ca-cert.pem too
 * - no-client: good without client-*: a client that shows no certificate
 * - bundle, bundle-expired: good, with the other CA, or one that expired, in ca-cert.pem too
 * - chain: good, but server-cert.pem is issued by a CA below the one in ca-cert.pem, and holds both
 * - numbered: good, but server-cert-0.pem, server-cert-1.pem (RSA), client-cert-0.pem and their keys
 * - numbered-too: good with a server-cert-0.pem (RSA) beside server-cert.pem
 * - revoked-server, revoked-client: good with a ca-crl.pem that revokes the one
 * - crl, old-crl: good with a ca-crl.pem that revokes nobody of these; in the latter, its next update is over
 * - server-purpose-advised: good, but the server's purpose is client, and not critical
 * - any-purpose: good, but the server's certificate does not say what it is for, so that it is a client's too
 * - bare: good, but the server's certificate says nothing of what it is for
 * - psk, psk-other, psk-twice, psk-crlf: keys.psk with qemu and alice; qemu with another key; qemu with both.
 * - psk-crlf: the same with empty lines and other space
 *
 * Mistakes, each good but for one thing:
 * expired-ca, expired-issuer (and another CA), namesake (the CA has only the name), ca-only, expired-server,
 * expired-client, early-server, ca-not-ca, ca-no-sign, server-is-ca, server-usage, server-purpose,
 * client-purpose, foreign-server (of the other CA), foreign-key, foreign-crl, no-key, no-server, no-ca,
 * text-cert, text-key, text-crl, locked-key (encrypted), empty-ca, endless (for tests to add a huge file),
 * both (x509 and PSK), neither (empty), psk-bad-hex, psk-no-colon, psk-empty, psk-nul, psk-folder (keys.psk
 * is a folder)
 */
#ifndef GW_TESTS_CERTS_H
#define GW_TESTS_CERTS_H

#define CERTS_HOST   "vm.example"
#define CERTS_CLIENT "C=DE,O=Godwit\\, Ltd,OU=Tests,CN=godwit client" /* as QEMU prints it: in the order of encoding */

/* Into `dir`, which exists. What fails ends the program with a line on stderr. */
void certs_make(const char *dir);
/* `dir` and all in it. */
void certs_remove(const char *dir);

#endif
