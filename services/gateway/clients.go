package gateway

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
)

// clients counts the bodies that each client is sending. A client that sends a
// byte now and then keeps its place for as long as it likes, because honest ones
// are slow, too; so it gets only so many places.
type clients struct {
	most atomic.Int64 // 0: no limit
	does string       // for the message: "is sending"
	key  string       // of the config file, likewise

	mu      sync.Mutex
	sending map[string]int // by clientOf
}

func (c *clients) init(most int, does, key string) {
	c.does, c.key = does, key
	c.limit(most)
}

// limit has another limit hold from now on. Who was let in before is not counted
// if there was none.
func (c *clients) limit(most int) { c.most.Store(int64(most)) }

// enter notes that a client begins to send. If it may, leave is due.
func (c *clients) enter(client string) (leave func(), err error) {
	most := int(c.most.Load())
	if most <= 0 || client == "" {
		return func() {}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sending[client] >= most {
		return nil, registry.ErrTooManyRequests.With("this client %s %d requests already (%s)", c.does, most, c.key)
	}
	if c.sending == nil {
		c.sending = make(map[string]int)
	}
	c.sending[client]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.sending[client]--; c.sending[client] == 0 {
			delete(c.sending, client)
		}
	}, nil
}

// clientOf returns what tells clients apart: the user, or else the address. All
// addresses of an IPv6 network of 64 bits are one, because its owner has as many
// as they like. "" is everybody behind a unix socket: a proxy has its own limits.
func clientOf(a registry.Actor, remote string) string {
	if a.ID != "" {
		return "user " + a.ID
	}
	ap, err := netip.ParseAddrPort(remote)
	switch {
	case err != nil && (remote == "" || remote[0] == '@' || remote[0] == '/'):
		return ""
	case err != nil:
		return remote
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, _ := ip.Prefix(64) // fails for more bits than there are
	return network.String()
}
