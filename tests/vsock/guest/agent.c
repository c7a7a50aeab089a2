/* The only program of the test guest: loads modules, then does what connections to its command port ask for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COMMAND_PORT = 1000, CHUNK = 65536 };

static char buffer[CHUNK];

static void load_modules(void)
{
    char path[64];
    for (int i = 0; ; i++) {
        snprintf(path, sizeof path, "/modules/%02d.ko", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return;
        if (syscall(SYS_finit_module, fd, "", 0))
            printf("%s: %s\n", path, strerror(errno));
        close(fd);
    }
}

static struct sockaddr_vm address(unsigned cid, unsigned port)
{
    struct sockaddr_vm a;
    memset(&a, 0, sizeof a);
    a.svm_family = AF_VSOCK;
    a.svm_cid = cid;
    a.svm_port = port;
    return a;
}

static int listen_on(unsigned port)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_vm a = address(VMADDR_CID_ANY, port);
    if (fd < 0 || bind(fd, (void *)&a, sizeof a) || listen(fd, 256)) {
        printf("listen %u: %s\n", port, strerror(errno));
        exit(1);
    }
    return fd;
}

static void write_all(int fd, const void *data, size_t size)
{
    for (const char *p = data; size; ) {
        ssize_t n = write(fd, p, size);
        if (n <= 0)
            exit(0);
        p += n;
        size -= n;
    }
}

static void say(int fd, const char *format, long long a, long long b)
{
    char line[128];
    int n = snprintf(line, sizeof line, format, a, b);
    write_all(fd, line, n);
}

static size_t read_full(int fd, char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, data + done, size - done);
        if (n <= 0)
            break;
        done += n;
    }
    return done;
}

static void echo(int fd)
{
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        write_all(fd, buffer, n);
}

/* Takes a counter of 64-bit words until end of file, and only then answers (so it needs half-close): size, wrong words. */
static void sink(int fd)
{
    uint64_t counter = 0, word;
    long long total = 0, wrong = 0;
    size_t n;
    while ((n = read_full(fd, buffer, sizeof buffer)) > 0) {
        for (size_t i = 0; i + 8 <= n; i += 8, counter++) {
            memcpy(&word, buffer + i, 8);
            wrong += word != counter;
        }
        total += n;
    }
    say(fd, "%lld %lld\n", total, wrong);
}

/* Sends `size` bytes: a counter of 64-bit words. */
static void source(int fd, long long size)
{
    uint64_t counter = 0;
    while (size > 0) {
        size_t n = size < CHUNK ? (size_t)size : CHUNK;
        for (size_t i = 0; i + 8 <= n; i += 8, counter++)
            memcpy(buffer + i, &counter, 8);
        write_all(fd, buffer, n);
        size -= n;
    }
}

static int connect_to(unsigned cid, unsigned port)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_vm a = address(cid, port);
    if (connect(fd, (void *)&a, sizeof a)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void set_window(int fd, unsigned long long size)
{
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MIN_SIZE, &size, sizeof size);
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof size);
}

static void run(int fd, const char *verb, long long number);

/* dial CID PORT VERB NUMBER: does VERB on a connection to there, after telling errno. */
static void dial(int fd, const char *rest)
{
    unsigned cid, port;
    char verb[32] = "";
    long long number = 0;
    if (sscanf(rest, "%u %u %31s %lld", &cid, &port, verb, &number) < 3)
        exit(1);
    int peer = connect_to(cid, port);
    say(fd, "%lld\n", peer < 0 ? errno : 0, 0);
    if (peer >= 0)
        run(peer, verb, number);
    exit(0);
}

static void flood(int fd, unsigned port, int count)
{
    struct rlimit limit = {4096, 4096};
    int good = 0;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < count; i++)
        good += connect_to(VMADDR_CID_HOST, port) >= 0;
    say(fd, "%lld\n", good, 0);
    read(fd, buffer, 1);
}

/* A peer that stops talking: tells what reading and writing to it end with. */
static void fate(int fd, int report)
{
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        ;
    int read_error = n < 0 ? errno : 0;
    int write_error = 0;
    for (int i = 0; i < 1000 && !write_error; i++)
        if (write(fd, buffer, 1) < 0)
            write_error = errno;
        else
            usleep(10000);
    say(report, "%lld %lld\n", read_error, write_error);
}

static void run(int fd, const char *verb, long long number)
{
    if (!strcmp(verb, "echo"))
        echo(fd);
    else if (!strcmp(verb, "sink"))
        sink(fd);
    else if (!strcmp(verb, "source"))
        source(fd, number);
    else if (!strcmp(verb, "window-sink")) {
        set_window(fd, number);
        sink(fd);
    } else if (!strcmp(verb, "window-source")) {
        set_window(fd, 4096);
        source(fd, number);
    } else if (!strcmp(verb, "hold"))
        for (;;)
            pause();
    else if (!strcmp(verb, "listen")) {
        int listener = listen_on(number);
        say(fd, "ok\n", 0, 0);
        echo(accept(listener, 0, 0));
    } else if (!strcmp(verb, "flood"))
        flood(fd, number & 0xffff, number >> 16);
    else if (!strcmp(verb, "reboot"))
        reboot(RB_AUTOBOOT);
    else if (!strcmp(verb, "poweroff"))
        reboot(RB_POWER_OFF);
    exit(0);
}

static void command(int fd)
{
    char line[128];
    size_t n = 0;
    while (n < sizeof line - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
        n++;
    line[n] = 0;
    if (!strncmp(line, "dial ", 5))
        dial(fd, line + 5);
    if (!strncmp(line, "fate ", 5)) {
        int peer = connect_to(VMADDR_CID_HOST, atoi(line + 5));
        fate(peer, fd);
        exit(0);
    }
    char verb[32] = "";
    long long number = 0;
    sscanf(line, "%31s %lld", verb, &number);
    run(fd, verb, number);
}

int main(void)
{
    mount("dev", "/dev", "devtmpfs", 0, "");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    setvbuf(stdout, 0, _IONBF, 0);
    load_modules();
    int listener = listen_on(COMMAND_PORT);
    printf("agent ready\n");
    for (;;) {
        int fd = accept4(listener, 0, 0, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        if (!fork()) {
            close(listener);
            command(fd);
        }
        close(fd);
    }
}
