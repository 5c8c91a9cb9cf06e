//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A Link is a network from here to a server in a network namespace of its own, through
// a router in another, that is as slow and as lossy as it is told to be. It takes root.
type Link struct {
	Addr string // of the server's side, without a port

	router, far string // namespaces
	toHere      string // the router's interface towards us
	cut         bool

	mu    sync.Mutex // guards conns and acked
	conns map[*linkConn]bool
	acked int64
}

// NewLink makes a link of rate megabits a second for as long as the test. loss is the
// share of packets that are lost on the way.
func NewLink(t testing.TB, rate int, loss float64) *Link {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("the test makes network namespaces, which takes root")
	}
	id := os.Getpid() % 10000
	l := &Link{
		Addr: "10.98.1.1", router: fmt.Sprintf("berth-r%d", id), far: fmt.Sprintf("berth-u%d", id),
		toHere: "to-here", conns: map[*linkConn]bool{},
	}
	here := fmt.Sprintf("berth%d", id)
	t.Cleanup(func() {
		for _, ns := range []string{l.router, l.far} {
			exec.Command("ip", "netns", "del", ns).Run()
		}
	})
	for _, c := range []string{
		"ip netns add " + l.router, "ip netns add " + l.far,
		fmt.Sprintf("ip link add %s type veth peer name %s netns %s", here, l.toHere, l.router),
		fmt.Sprintf("ip -n %s link add to-far type veth peer name uplink netns %s", l.router, l.far),
		fmt.Sprintf("ip addr add 10.98.2.2/24 dev %s", here), fmt.Sprintf("ip link set %s up", here),
		fmt.Sprintf("ip -n %s addr add 10.98.2.1/24 dev %s", l.router, l.toHere), fmt.Sprintf("ip -n %s link set %s up", l.router, l.toHere),
		fmt.Sprintf("ip -n %s addr add 10.98.1.2/24 dev to-far", l.router), fmt.Sprintf("ip -n %s link set to-far up", l.router),
		fmt.Sprintf("ip -n %s addr add 10.98.1.1/24 dev uplink", l.far), fmt.Sprintf("ip -n %s link set uplink up", l.far),
		fmt.Sprintf("ip -n %s route add default via 10.98.1.2", l.far), fmt.Sprintf("ip -n %s link set lo up", l.far),
		fmt.Sprintf("ip netns exec %s sysctl -qw net.ipv4.ip_forward=1", l.router),
		"ip route add 10.98.1.0/24 via 10.98.2.1",
		fmt.Sprintf("tc -n %s qdisc add dev %s root tbf rate %dmbit burst 64kb latency 100ms", l.router, l.toHere, rate),
	} {
		shell(t, c)
	}
	if loss > 0 {
		shell(t, fmt.Sprintf("ip netns exec %s iptables -A FORWARD -m statistic --mode random --probability %g -j DROP", l.router, loss))
	}
	return l
}

func shell(t testing.TB, command string) {
	t.Helper()
	f := strings.Fields(command)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// Cut lets nothing through, until Mend. With reset the ends are told so.
func (l *Link) Cut(t testing.TB, reset bool) {
	t.Helper()
	how := "-j DROP"
	if reset {
		how = "-p tcp -j REJECT --reject-with tcp-reset"
	}
	shell(t, fmt.Sprintf("ip netns exec %s iptables -I FORWARD %s", l.router, how))
	l.cut = true
}

// Mend ends a cut.
func (l *Link) Mend(t testing.TB) {
	t.Helper()
	if l.cut {
		shell(t, fmt.Sprintf("ip netns exec %s iptables -D FORWARD 1", l.router))
	}
	l.cut = false
}

// Listen listens at the far end.
func (l *Link) Listen(t testing.TB) net.Listener {
	t.Helper()
	type result struct {
		net.Listener
		error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // and never given back: the thread is in another namespace
		ns, err := os.Open("/run/netns/" + l.far)
		if err != nil {
			made <- result{nil, err}
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			made <- result{nil, err}
			return
		}
		listener, err := net.Listen("tcp", l.Addr+":0")
		made <- result{listener, err}
	}()
	r := <-made
	if r.error != nil {
		t.Fatal(r.error)
	}
	return &linkListener{r.Listener, l}
}

// Delivered returns how many bytes of the server have arrived at this end, as TCP
// acknowledged them.
func (l *Link) Delivered() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.acked
	for c := range l.conns {
		n += c.delivered()
	}
	return n
}

type linkListener struct {
	net.Listener
	link *Link
}

func (l *linkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	lc := &linkConn{TCPConn: c.(*net.TCPConn), link: l.link}
	l.link.mu.Lock()
	l.link.conns[lc] = true
	l.link.mu.Unlock()
	return lc, nil
}

// linkConn counts what was delivered when it is closed.
type linkConn struct {
	*net.TCPConn
	link *Link
}

func (c *linkConn) Close() error {
	c.link.mu.Lock()
	if c.link.conns[c] {
		c.link.acked += c.delivered()
		delete(c.link.conns, c)
	}
	c.link.mu.Unlock()
	return c.TCPConn.Close()
}

// delivered asks TCP how many bytes the other end has acknowledged.
func (c *linkConn) delivered() (n int64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int64(info.Bytes_acked)
		}
	})
	return n
}
