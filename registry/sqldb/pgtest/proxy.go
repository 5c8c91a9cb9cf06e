package pgtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Flight is what a client sends before it waits for an answer: one round trip.
type Flight struct {
	Texts []string // of the statements that it prepares or runs by name
	bytes []byte
}

// Has reports whether a statement of the flight has the text.
func (f Flight) Has(text string) bool {
	for _, s := range f.Texts {
		if s == text {
			return true
		}
	}
	return false
}

// Fate is what becomes of a flight.
type Fate int

// The fates. The client's connection is cut in all but the first.
const (
	Deliver Fate = iota
	Drop         // the server never sees it
	Half         // the server sees all but its end
	Swallow      // the server does it, and its answer is lost
	Linger       // the server gets it only after [Proxy.Release]
)

// Proxy is between clients and a server of this machine. It counts round trips
// and cuts connections.
type Proxy struct {
	Port   int
	target string

	mu      sync.Mutex // guards the fields below
	fate    func(Flight) Fate
	flights []Flight
	release chan struct{} // closed and made anew by Release
	conns   map[net.Conn]bool
	closed  bool
}

// NewProxy starts a proxy in front of a port, for t.
func NewProxy(t testing.TB, port int) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		Port: l.Addr().(*net.TCPAddr).Port, target: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		release: make(chan struct{}), conns: make(map[net.Conn]bool),
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.Release()
		p.CutAll()
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.CutAll()
		work.Wait()
	})
	return p
}

// Decide sets what becomes of flights from now on; nil delivers them.
func (p *Proxy) Decide(fate func(Flight) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fate = fate
}

// Release lets the flights go on that linger.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.release)
	p.release = make(chan struct{})
}

// CutAll cuts all connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Took returns the flights since the last call.
func (p *Proxy) Took() []Flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.flights
	p.flights = nil
	return all
}

func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) untrack(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// judge notes a flight and returns its fate.
func (p *Proxy) judge(f Flight) (Fate, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flights = append(p.flights, f)
	if p.fate == nil {
		return Deliver, nil
	}
	return p.fate(f), p.release
}

func (p *Proxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.untrack(client)
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.target)
	if err != nil || !p.track(server) {
		return
	}
	defer p.untrack(server)
	answers := newAnswers(client)
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		answers.run(server)
		client.Close()
	}()
	_ = p.forward(client, server, answers) // likewise
	server.Close()
	<-copied
}

// forward reads the client's messages and sends them on flight by flight.
func (p *Proxy) forward(client, server net.Conn, answers *answers) error {
	start, err := message(client, false)
	if err != nil {
		return err
	}
	if _, err := server.Write(start); err != nil {
		return err
	}
	var f Flight
	for {
		m, err := message(client, true)
		if err != nil {
			return err
		}
		f.add(m)
		switch m[0] {
		case 'S', 'Q': // Sync, Query: the server answers
		case 'p', 'X': // of the login, or the end
			if _, err := server.Write(m); err != nil {
				return err
			}
			f = Flight{}
			continue
		default:
			continue
		}
		fate, release := p.judge(f)
		switch fate {
		case Deliver:
			_, err = server.Write(f.bytes)
		case Drop:
			err = errCut
		case Half:
			_, err = server.Write(f.bytes[:len(f.bytes)-len(m)])
			err = errors.Join(err, errCut)
		case Swallow:
			ready := answers.drop()
			if _, err = server.Write(f.bytes); err == nil {
				<-ready
				err = errCut
			}
		case Linger:
			ready := answers.drop()
			client.Close()
			<-release
			if _, err = server.Write(f.bytes); err == nil {
				<-ready
				err = errCut
			}
		}
		if err != nil {
			return err
		}
		f = Flight{}
	}
}

var errCut = errors.New("cut")

// message reads a message of the protocol; the first has no type.
func message(r io.Reader, typed bool) ([]byte, error) {
	head := make([]byte, 4, 5)
	if typed {
		head = head[:5]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head[len(head)-4:]))
	if size < 4 || size > 1<<26 {
		return nil, errors.New("not the protocol of PostgreSQL")
	}
	m := append(head, make([]byte, size-4)...)
	_, err := io.ReadFull(r, m[len(head):])
	return m, err
}

// add appends a message to the flight.
func (f *Flight) add(m []byte) {
	f.bytes = append(f.bytes, m...)
	body := m[5:]
	switch m[0] {
	case 'P': // Parse: name, text
		_, rest, _ := bytes.Cut(body, []byte{0})
		text, _, _ := bytes.Cut(rest, []byte{0})
		f.Texts = append(f.Texts, string(text))
	case 'Q':
		text, _, _ := bytes.Cut(body, []byte{0})
		f.Texts = append(f.Texts, string(text))
	}
}

// answers passes a server's messages to the client until they are swallowed.
type answers struct {
	client net.Conn

	mu      sync.Mutex    // guards the fields below
	swallow bool          // and tell the client nothing
	ready   chan struct{} // closed when the server has answered, or is gone
}

func newAnswers(client net.Conn) *answers { return &answers{client: client} }

// drop swallows all further answers. The returned channel is closed when the
// server is ready again, or gone.
func (a *answers) drop() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.swallow, a.ready = true, make(chan struct{})
	return a.ready
}

// run reads the server's messages until it is gone.
func (a *answers) run(server net.Conn) {
	for {
		m, err := message(server, true)
		a.mu.Lock()
		if a.ready != nil && (err != nil || m[0] == 'Z') { // ReadyForQuery
			close(a.ready)
			a.ready = nil
		}
		swallow := a.swallow
		a.mu.Unlock()
		if err == nil && !swallow {
			_, err = a.client.Write(m)
		}
		if err != nil {
			return
		}
	}
}
