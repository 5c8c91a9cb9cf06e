package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"

	syncerv1 "github.com/berth-registry/berth/proto/gen/berth/syncer/v1"
	"github.com/berth-registry/berth/registry"
)

// NewMirror returns the Mirror that is served at the other end of conn. Make conn
// with [Dial].
func NewMirror(conn grpc.ClientConnInterface) registry.Mirror {
	return &mirror{syncerv1.NewSyncServiceClient(conn), clientLimits()}
}

// mirror implements registry.Mirror.
type mirror struct {
	client syncerv1.SyncServiceClient
	limits limits
}

// resolveTime bounds calls that wait for an upstream.
const resolveTime = 2 * time.Minute

func (m *mirror) Route(ctx context.Context, upstream string, repo registry.Name) (registry.Name, error) {
	resp, err := unary(ctx, m.limits, m.limits.read, true, m.client.Route, &syncerv1.RouteRequest{Upstream: text(upstream), Repository: text(string(repo))})
	return registry.Name(resp.GetRepository()), err
}

func (m *mirror) Resolve(ctx context.Context, a registry.Actor, repo registry.Name, ref registry.Reference, local registry.Digest) (registry.Resolution, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.Resolution{}, err
	}
	resp, err := unary(ctx, m.limits, resolveTime, true, m.client.Resolve,
		&syncerv1.ResolveRequest{Actor: actor, Repository: text(string(repo)), Reference: text(ref.String()), Local: text(string(local))})
	return registry.Resolution{Digest: registry.Digest(resp.GetDigest()), Warning: resp.GetWarning()}, err
}

func (m *mirror) Stat(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (int64, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return 0, err
	}
	resp, err := unary(ctx, m.limits, resolveTime, true, m.client.StatBlob,
		&syncerv1.StatBlobRequest{Actor: actor, Repository: text(string(repo)), Digest: text(string(d))})
	return resp.GetSize(), err
}

func (m *mirror) Open(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, r registry.Range) (registry.Content, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	c := &followed{ctx: ctx, stop: stop, patience: newPatience(resolveTime, func() { stop(errStalled) })}
	c.patience.timer.Stop()
	err = c.patience.during(func() error {
		c.stream, err = m.client.OpenBlob(ctx, &syncerv1.OpenBlobRequest{
			Actor: actor, Repository: text(string(repo)), Digest: text(string(d)), Offset: r.Offset, Length: r.Length,
		}, grpc.MaxCallRecvMsgSize(maxMessage))
		if err != nil {
			return err
		}
		first, err := c.stream.Recv()
		c.size, c.left = first.GetSize(), first.GetSize()
		return err
	})
	if err != nil {
		err = c.fail(err)
		stop(nil)
		return nil, err
	}
	return c, nil
}

// followed is a blob that arrives while it is being fetched.
type followed struct {
	ctx      context.Context // its cause says why we gave the stream up
	stop     context.CancelCauseFunc
	stream   grpc.ServerStreamingClient[syncerv1.OpenBlobResponse]
	patience *patience
	size     int64
	left     int64 // bytes that have not come
	rest     []byte
	end      error // why no more comes

}

func (c *followed) fail(err error) error {
	switch cause := context.Cause(c.ctx); {
	case errors.Is(cause, errStalled):
		return registry.ErrUnavailable.Because(fmt.Errorf("no byte for %v", c.patience.limit))
	case errors.Is(cause, errClosed):
		return errClosed
	}
	return fromStatus(c.ctx, err)
}

// receive waits for the next bytes. After the last ones it waits for the end of the
// stream, which says that they are right.
func (c *followed) receive() error {
	for len(c.rest) == 0 && c.end == nil {
		var msg *syncerv1.OpenBlobResponse
		err := c.patience.during(func() (err error) {
			msg, err = c.stream.Recv()
			return err
		})
		switch {
		case err == io.EOF && c.left == 0:
			c.end = io.EOF
		case err == io.EOF:
			c.end = io.ErrUnexpectedEOF
		case err != nil:
			c.end = c.fail(err)
		default:
			c.rest = msg.GetData()
			if c.left -= int64(len(c.rest)); c.left < 0 {
				c.rest, c.end = nil, registry.ErrInternal.Because(errors.New("received more than was announced"))
			}
		}
	}
	if len(c.rest) > 0 {
		return nil
	}
	return c.end
}

// Size implements registry.Content.
func (c *followed) Size() int64 { return c.size }

// Close implements registry.Content.
func (c *followed) Close() error {
	c.stop(errClosed)
	c.patience.timer.Stop()
	return nil
}

// Read implements io.Reader.
func (c *followed) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := c.receive(); err != nil {
		return 0, err
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (c *followed) WriteTo(w io.Writer) (total int64, err error) {
	for {
		err := c.receive()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(c.rest)
		total += int64(n)
		c.rest = c.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

func (m *mirror) FetchReferrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = unary(ctx, m.limits, m.limits.read, true, m.client.FetchReferrers,
		&syncerv1.FetchReferrersRequest{Actor: actor, Repository: text(string(repo)), Digest: text(string(d))})
	return err
}

func (m *mirror) Covers(ctx context.Context, repo registry.Name) (registry.Coverage, error) {
	resp, err := unary(ctx, m.limits, m.limits.read, true, m.client.Covers, &syncerv1.CoversRequest{Repository: text(string(repo))})
	return registry.Coverage{Rule: resp.GetRule(), Push: registry.PushRule(resp.GetPush()), Claimed: resp.GetClaimed(), Forward: resp.GetForward()}, err
}

func (m *mirror) Claim(ctx context.Context, a registry.Actor, repo registry.Name) error {
	actor, err := actorToWire(a)
	if err != nil {
		return err
	}
	_, err = unary(ctx, m.limits, m.limits.write, true, m.client.Claim, &syncerv1.ClaimRequest{Actor: actor, Repository: text(string(repo))})
	return err
}

func (m *mirror) Served(ctx context.Context, all []registry.Served) error {
	req := &syncerv1.ServedRequest{Served: make([]*syncerv1.ServedBytes, len(all))}
	for i, s := range all {
		req.Served[i] = &syncerv1.ServedBytes{Repository: text(string(s.Repository)), Bytes: s.Bytes}
	}
	_, err := unary(ctx, m.limits, m.limits.write, false, m.client.Served, req)
	return err
}

func (m *mirror) MirrorRules(ctx context.Context) ([]registry.MirrorRule, error) {
	resp, err := unary(ctx, m.limits, m.limits.read, true, m.client.ListRules, &syncerv1.ListRulesRequest{})
	all := make([]registry.MirrorRule, len(resp.GetRules()))
	for i, r := range resp.GetRules() {
		all[i] = registry.MirrorRule{
			Name: r.GetName(), URLs: r.GetUrls(), OnDemand: r.GetOnDemand(), Interval: time.Duration(r.GetIntervalUs()) * time.Microsecond,
			Push: registry.PushRule(r.GetPush()), Paused: r.GetPaused(), Running: r.GetRunning(), Down: r.GetDown(),
			LastRun: r.GetLastRunUs(), LastError: r.GetLastError(), Done: r.GetDone(), Total: r.GetTotal(),
			Requests: r.GetRequests(), Bytes: r.GetBytes(), Budget: r.GetBudget(), Scope: r.GetScope(),
			Rate: r.GetRate(), Speed: r.GetSpeed(), MonthBytes: r.GetMonthBytes(), MonthLimit: r.GetMonthLimit(),
			Waits: r.GetWaits(), Hits: r.GetHits(), Misses: r.GetMisses(),
			Prune: r.GetPrune(), Pruned: r.GetPruned(), Saved: r.GetSaved(),
		}
	}
	return all, err
}

func (m *mirror) Fills(ctx context.Context) ([]registry.Fill, error) {
	resp, err := unary(ctx, m.limits, m.limits.read, true, m.client.ListFills, &syncerv1.ListFillsRequest{})
	all := make([]registry.Fill, len(resp.GetFills()))
	for i, f := range resp.GetFills() {
		all[i] = registry.Fill{
			Digest: registry.Digest(f.GetDigest()), Repository: registry.Name(f.GetRepository()), Rule: f.GetRule(),
			Have: f.GetHave(), Size: f.GetSize(), Readers: f.GetReaders(), Since: f.GetSinceUs(), Error: f.GetError(),
			Priority: f.GetPriority(), Speed: f.GetSpeed(), ETA: f.GetEtaS(),
		}
	}
	return all, err
}

func (m *mirror) Presence(ctx context.Context, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.TagPresence], error) {
	resp, err := unary(ctx, m.limits, m.limits.read, true, m.client.ListPresence,
		&syncerv1.ListPresenceRequest{Repository: text(string(repo)), After: text(string(p.After)), Limit: int32(min(p.Limit, math.MaxInt32))})
	list := registry.List[registry.TagPresence]{More: resp.GetMore()}
	for _, t := range resp.GetTags() {
		x := registry.TagPresence{
			Tag: registry.Tag(t.GetTag()), Digest: registry.Digest(t.GetDigest()), State: registry.Presence(t.GetState()), Have: t.GetHave(), Size: t.GetSize(),
		}
		for _, i := range t.GetPlatforms() {
			x.Platforms = append(x.Platforms, registry.PlatformPresence{
				Platform: i.GetPlatform(), Digest: registry.Digest(i.GetDigest()), State: registry.Presence(i.GetState()), Have: i.GetHave(), Size: i.GetSize(),
			})
		}
		list.Items = append(list.Items, x)
	}
	return list, err
}

func (m *mirror) Explain(ctx context.Context, repo registry.Name) ([]string, error) {
	resp, err := unary(ctx, m.limits, m.limits.read, true, m.client.Explain, &syncerv1.ExplainRequest{Repository: text(string(repo))})
	return resp.GetLines(), err
}

func (m *mirror) Examine(ctx context.Context, rule string) ([]registry.MirrorCheck, error) {
	resp, err := unary(ctx, m.limits, resolveTime, true, m.client.Examine, &syncerv1.ExamineRequest{Rule: text(rule)})
	all := make([]registry.MirrorCheck, len(resp.GetSteps()))
	for i, s := range resp.GetSteps() {
		all[i] = registry.MirrorCheck{Step: s.GetStep(), OK: s.GetOk(), Text: s.GetText()}
	}
	return all, err
}

func (m *mirror) Trigger(ctx context.Context, rule string) error {
	_, err := unary(ctx, m.limits, m.limits.write, true, m.client.Trigger, &syncerv1.TriggerRequest{Rule: text(rule)})
	return err
}

func (m *mirror) Pause(ctx context.Context, rule string, paused bool) error {
	_, err := unary(ctx, m.limits, m.limits.write, true, m.client.Pause, &syncerv1.PauseRequest{Rule: text(rule), Paused: paused})
	return err
}

func (m *mirror) Forget(ctx context.Context, repo registry.Name) error {
	_, err := unary(ctx, m.limits, m.limits.write, true, m.client.Forget, &syncerv1.ForgetRequest{Repository: text(string(repo))})
	return err
}

func (m *mirror) Check(ctx context.Context) (registry.Health, error) {
	_, err := unary(ctx, m.limits, m.limits.read, true, m.client.Check, &syncerv1.CheckRequest{})
	return registry.Health{}, err
}
