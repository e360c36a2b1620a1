/* The load generator: asks an echo server over many connections, with one request in flight on each.  Linux.
 *
 *     load tcp|udp|accept PORT CONNECTIONS SIZE SECONDS REQUESTS IDLE PID
 *
 * Compares each answer with what was sent, each request being different; the first wrong byte ends it with status 1.
 * Measures for SECONDS, or until REQUESTS have been answered if that is not 0.  IDLE more connections are opened, asked
 * once and left alone.  "accept" opens a new connection for each request and waits until the server has closed it.
 * PID is the server, whose CPU time is measured too.  Prints JSON; see load.py, which speaks the same language.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { POOL = 1 << 22, SAMPLES = 1 << 22, AT_ONCE = 200 /* connections being opened */ };

struct connection {
    int fd, idle, connected;
    size_t offset, sent, got; /* of the request, in the pool */
    uint64_t since, answers;
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static struct connection *connections;
static unsigned char pool[POOL], buffer[1 << 17];
static uint32_t *samples; /* nanoseconds */
static size_t size, total, active, opened, answered_once, in_flight, n_samples;
static int epoll, udp, reconnects, started, measuring;
static uint64_t answers, seed = 88172645463325252u, next_source;
static clockid_t server_clock;

static void fail(const char *what)
{
    fprintf(stderr, "load: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time))
        fail("cannot read a clock");
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static uint64_t dice(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void watch(struct connection *c, int how, uint32_t events)
{
    struct epoll_event event = {events, {.ptr = c}};
    if (epoll_ctl(epoll, how, c->fd, &event))
        fail("epoll_ctl");
}

/* Each thousand connections come from another address of this machine, so that none runs out of ports. */
static void open_connection(struct connection *c)
{
    uint64_t number = next_source++ / 1000 + getpid();
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(0x7f010000 + (number / 250 % 250 << 8) + number % 250 + 1);
    c->fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    if (c->fd < 0 || bind(c->fd, (void *)&source, sizeof source))
        fail("cannot make a socket");
    c->connected = 0;
    c->since = now(CLOCK_MONOTONIC);
    if (connect(c->fd, (void *)&server, sizeof server) && errno != EINPROGRESS)
        fail("cannot connect");
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void send_rest(struct connection *c)
{
    while (c->sent < size) {
        ssize_t n = send(c->fd, pool + c->offset + c->sent, size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0)
            fail("cannot send");
        c->sent += n;
    }
}

static void ask(struct connection *c)
{
    c->offset = dice() % (POOL - size);
    c->sent = c->got = 0;
    in_flight++;
    if (!reconnects)
        c->since = now(CLOCK_MONOTONIC);
    send_rest(c);
}

static void answered(struct connection *c)
{
    if (c->answers++ == 0)
        answered_once++;
    answers++;
    in_flight--;
    if (measuring && n_samples < SAMPLES)
        samples[n_samples++] = now(CLOCK_MONOTONIC) - c->since;
}

static void handle(struct connection *c, uint32_t events)
{
    if (!c->connected) {
        int error;
        socklen_t length = sizeof error;
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length) || (errno = error))
            fail("cannot connect");
        c->connected = 1;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        ask(c);
        return;
    }
    if (events & EPOLLOUT) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        send_rest(c);
    }
    if (!(events & ~EPOLLOUT))
        return;
    ssize_t n = recv(c->fd, buffer, size - c->got + 1, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    errno = n < 0 ? errno : 0;
    if (n == 0 && reconnects && c->got == size) {
        close(c->fd);
        answered(c);
        if (started)
            open_connection(c);
        return;
    }
    if (n <= 0)
        fail("the server has closed a connection");
    if (c->got + n > size || memcmp(buffer, pool + c->offset + c->got, n) || (udp && (size_t)n != size))
        fail("the server has given a wrong answer");
    c->got += n;
    if (c->got < size)
        return;
    if (reconnects) {
        if (shutdown(c->fd, SHUT_WR))
            fail("shutdown");
        return;
    }
    answered(c);
    if (started && !c->idle)
        ask(c);
}

/* One round: open what may be opened, then handle what has happened. */
static void turn(void)
{
    struct epoll_event events[512];
    while (opened < total && opened - answered_once < AT_ONCE)
        open_connection(&connections[opened++]);
    int count = epoll_wait(epoll, events, 512, 20000);
    if (count == 0) {
        errno = 0;
        fail("the server has not answered for 20 seconds");
    }
    for (int i = 0; i < count; i++)
        handle(events[i].data.ptr, events[i].events);
}

static int by_value(const void *a, const void *b)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

int main(int argc, char **argv)
{
    if (argc != 9) {
        fprintf(stderr, "usage: load tcp|udp|accept PORT CONNECTIONS SIZE SECONDS REQUESTS IDLE PID\n");
        return 2;
    }
    udp = strcmp(argv[1], "udp") == 0;
    reconnects = strcmp(argv[1], "accept") == 0;
    server.sin_port = htons(atoi(argv[2]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    active = atol(argv[3]);
    size = atol(argv[4]);
    uint64_t duration = atof(argv[5]) * 1e9, requests = atoll(argv[6]);
    total = active + atol(argv[7]);
    if (clock_getcpuclockid(atoi(argv[8]), &server_clock))
        fail("no such server");
    connections = calloc(total, sizeof *connections);
    samples = malloc(SAMPLES * sizeof *samples);
    epoll = epoll_create1(0);
    if (!connections || !samples || epoll < 0)
        fail("cannot begin");
    for (size_t i = 0; i < POOL; i++)
        pool[i] = dice();
    for (size_t i = active; i < total; i++)
        connections[i].idle = 1;

    /* Until all are open, each asks once only: a server that is kept busy accepts few. */
    while (answered_once < total)
        turn();
    started = 1;
    for (size_t i = 0; i < active; i++) {
        if (reconnects)
            open_connection(&connections[i]);
        else
            ask(&connections[i]);
    }
    uint64_t begin = now(CLOCK_MONOTONIC);
    if (!requests) /* to warm up */
        while (now(CLOCK_MONOTONIC) - begin < duration / 5)
            turn();
    measuring = 1;
    uint64_t before = answers, own = now(CLOCK_PROCESS_CPUTIME_ID), theirs = now(server_clock);
    begin = now(CLOCK_MONOTONIC);
    while (requests ? answers - before < requests : now(CLOCK_MONOTONIC) - begin < duration)
        turn();
    uint64_t spent = now(CLOCK_MONOTONIC) - begin;
    own = now(CLOCK_PROCESS_CPUTIME_ID) - own;
    theirs = now(server_clock) - theirs;
    measuring = started = 0;
    while (in_flight) /* the server shall see connections that end, not ones that break */
        turn();

    qsort(samples, n_samples, sizeof *samples, by_value);
    const double parts[] = {0.5, 0.9, 0.99, 0.999};
    printf("{\"requests\": %llu, \"seconds\": %.9f, \"load\": %.9f, \"server\": %.9f, \"latency\": [",
           (unsigned long long)(answers - before), spent / 1e9, own / 1e9, theirs / 1e9);
    for (int i = 0; i < 4 && n_samples; i++)
        printf("%s%.9f", i ? ", " : "", samples[(size_t)(parts[i] * (n_samples - 1))] / 1e9);
    printf("]}\n");
    return 0;
}
