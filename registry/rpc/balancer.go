package rpc

import (
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// replicas is the name of our policy of load balancing: calls go in turn to all
// replicas that are connected, whose health check says that they are well, and
// whose breaker does not leave them out. Connections are gRPC's own business,
// one each, as in its round_robin.
const replicas = "berth_replicas"

func init() { balancer.Register(builder{}) } // gRPC knows policies by name only

type builder struct{}

func (builder) Name() string { return replicas }

func (builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	c := &guarded{ClientConn: cc, breakers: map[string]*breaker{}}
	return turns{endpointsharding.NewBalancer(c, o, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})}
}

// turns has one connection for each endpoint.
type turns struct{ balancer.Balancer }

func (t turns) UpdateClientConnState(s balancer.ClientConnState) error {
	// Without it the health check of a connection counts for nothing.
	return t.Balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: pickfirst.EnableHealthListener(s.ResolverState)})
}

// guarded puts our picker in place of the one that gRPC would use.
type guarded struct {
	balancer.ClientConn

	mu       sync.Mutex          // guards breakers
	breakers map[string]*breaker // by address; they outlive connections
}

func (g *guarded) UpdateState(s balancer.State) {
	if children := endpointsharding.ChildStatesFromPicker(s.Picker); children != nil {
		ready := g.ready(children)
		if s.ConnectivityState == connectivity.Ready && len(ready) > 0 {
			s.Picker = &picker{ready: ready}
		}
	}
	g.ClientConn.UpdateState(s)
}

// ready returns the replicas that are connected and well.
func (g *guarded) ready(children []endpointsharding.ChildState) []replica {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ready []replica
	known := make(map[string]*breaker, len(children))
	for _, c := range children {
		at := addressOf(c.Endpoint)
		b := g.breakers[at]
		if b == nil {
			b = new(breaker)
		}
		known[at] = b
		if c.State.ConnectivityState == connectivity.Ready {
			ready = append(ready, replica{c.State.Picker, b})
		}
	}
	g.breakers = known // those that are gone are forgotten
	return ready
}

func addressOf(e resolver.Endpoint) string {
	if len(e.Addresses) == 0 {
		return ""
	}
	return e.Addresses[0].Addr
}

// replica is a server that could be called.
type replica struct {
	balancer.Picker // of its one connection
	breaker         *breaker
}

// picker gives calls to replicas in turn.
type picker struct {
	ready []replica
	turn  atomic.Uint32
}

// errLeftOut fails calls at once: gRPC does not wait for another picker when the
// error is a status.
var errLeftOut = status.Error(codes.Unavailable, "every replica is left out for the moment: too many calls have failed or are in progress")

// Pick implements balancer.Picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	first := p.turn.Add(1)
	for i := range uint32(len(p.ready)) {
		r := p.ready[(first+i)%uint32(len(p.ready))]
		if !r.breaker.enter() {
			continue
		}
		result, err := r.Pick(info)
		if err != nil {
			r.breaker.leave(unclear)
			return result, err
		}
		done := result.Done
		result.Done = func(d balancer.DoneInfo) {
			r.breaker.leave(outcomeOf(info.Ctx, d))
			if done != nil {
				done(d)
			}
		}
		return result, nil
	}
	return balancer.PickResult{}, errLeftOut
}
