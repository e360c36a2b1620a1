/* The floor: an echo server that does nothing else, over TCP or UDP, on level-triggered epoll.  Linux.
 *
 *     floor tcp|udp        prints its port, then serves until it is killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[65536];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int send_all(int fd, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        ssize_t n = send(fd, buffer + sent, length - sent, MSG_NOSIGNAL);
        if (n >= 0) {
            sent += n;
        } else if (errno == EAGAIN) { /* whoever does not read holds up all others: this is a floor, not a server */
            struct pollfd one = {fd, POLLOUT, 0};
            poll(&one, 1, -1);
        } else {
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    int udp = argc == 2 && strcmp(argv[1], "udp") == 0;
    if (argc != 2 || (!udp && strcmp(argv[1], "tcp") != 0)) {
        fprintf(stderr, "usage: floor tcp|udp\n");
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (void *)&address, length) || (!udp && listen(listener, 4096)) ||
        getsockname(listener, (void *)&address, &length))
        fail("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.fd = listener}}, events[1024];
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        fail("epoll_ctl");
    for (;;) {
        int count = epoll_wait(epoll, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                ssize_t n = recv(fd, buffer, sizeof buffer, 0);
                if (n == 0 || (n < 0 && errno != EAGAIN) || (n > 0 && send_all(fd, n)))
                    close(fd);
            } else if (udp) {
                struct sockaddr_in from;
                socklen_t size = sizeof from;
                ssize_t n;
                while ((n = recvfrom(fd, buffer, sizeof buffer, 0, (void *)&from, &size)) >= 0)
                    sendto(fd, buffer, n, 0, (void *)&from, size);
            } else {
                int accepted;
                while ((accepted = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    event.events = EPOLLIN;
                    event.data.fd = accepted;
                    epoll_ctl(epoll, EPOLL_CTL_ADD, accepted, &event);
                }
            }
        }
    }
}
