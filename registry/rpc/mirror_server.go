package rpc

import (
	"context"
	"io"

	"google.golang.org/grpc"

	syncerv1 "github.com/berth-registry/berth/proto/gen/berth/syncer/v1"
	"github.com/berth-registry/berth/registry"
)

// ServeMirror makes srv serve m. srv must come from [NewServer]. rights is asked
// whether a client that is no service may see and steer what is mirrored; with nil,
// none may.
func ServeMirror(srv grpc.ServiceRegistrar, m registry.Mirror, rights registry.Access) {
	syncerv1.RegisterSyncServiceServer(srv, &mirrorServer{mirror: m, rights: rights})
}

// mirrorServer serves registry.Mirror.
type mirrorServer struct {
	syncerv1.UnimplementedSyncServiceServer
	mirror registry.Mirror
	rights registry.Access
}

// admit returns nil if the peer may use [registry.MirrorControl], which has no actor:
// a gateway has asked the catalog before, the owner of the store need not, and
// everybody else must be an administrator of the store, by the rules of the moment.
func (s *mirrorServer) admit(ctx context.Context) error {
	if ctx.Value(owner{}) != nil || speaks(ctx) {
		return nil
	}
	a := actorOf(ctx, nil)
	if s.rights == nil {
		return a.Refusal("")
	}
	may, err := s.rights.Allowed(ctx, a, "", registry.ActAdmin)
	if err == nil && !may.Has(registry.ActAdmin) {
		err = a.Refusal("only administrators (http.accessControl.adminPolicy) look after mirrors")
	}
	return err
}

func (s *mirrorServer) Route(ctx context.Context, req *syncerv1.RouteRequest) (*syncerv1.RouteResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err == nil {
		repo, err = s.mirror.Route(ctx, req.GetUpstream(), repo)
	}
	if err != nil {
		return nil, err
	}
	return &syncerv1.RouteResponse{Repository: text(string(repo))}, nil
}

func (s *mirrorServer) Resolve(ctx context.Context, req *syncerv1.ResolveRequest) (*syncerv1.ResolveResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(req.GetReference())
	if err != nil {
		return nil, err
	}
	var local registry.Digest
	if req.GetLocal() != "" {
		if local, err = registry.ParseDigest(req.GetLocal()); err != nil {
			return nil, err
		}
	}
	res, err := s.mirror.Resolve(ctx, actorOf(ctx, req.GetActor()), repo, ref, local)
	if err != nil {
		return nil, err
	}
	return &syncerv1.ResolveResponse{Digest: text(string(res.Digest)), Warning: text(res.Warning)}, nil
}

// namedContent returns the repository and the digest that a request names.
func namedContent(repository, digest string) (registry.Name, registry.Digest, error) {
	repo, err := registry.ParseName(repository)
	if err != nil {
		return "", "", err
	}
	d, err := registry.ParseDigest(digest)
	return repo, d, err
}

func (s *mirrorServer) StatBlob(ctx context.Context, req *syncerv1.StatBlobRequest) (*syncerv1.StatBlobResponse, error) {
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	size, err := s.mirror.Stat(ctx, actorOf(ctx, req.GetActor()), repo, d)
	if err != nil {
		return nil, err
	}
	return &syncerv1.StatBlobResponse{Size: size}, nil
}

func (s *mirrorServer) OpenBlob(req *syncerv1.OpenBlobRequest, stream grpc.ServerStreamingServer[syncerv1.OpenBlobResponse]) error {
	ctx := stream.Context()
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err != nil {
		return err
	}
	c, err := s.mirror.Open(ctx, actorOf(ctx, req.GetActor()), repo, d, registry.Range{Offset: req.GetOffset(), Length: req.GetLength()})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := stream.Send(&syncerv1.OpenBlobResponse{Size: c.Size()}); err != nil {
		return err
	}
	n, err := c.WriteTo(mirrorWriter{stream})
	if err == nil && n != c.Size() {
		err = io.ErrUnexpectedEOF
	}
	return registry.CutOff(err)
}

// mirrorWriter sends what is written as messages.
type mirrorWriter struct {
	stream grpc.ServerStreamingServer[syncerv1.OpenBlobResponse]
}

// mirrorChunk is how many bytes one message has at most.
const mirrorChunk = 256 << 10

func (w mirrorWriter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n := min(len(p), mirrorChunk)
		if err := w.stream.Send(&syncerv1.OpenBlobResponse{Data: p[:n]}); err != nil {
			return total, err
		}
		total += n
		p = p[n:]
	}
	return total, nil
}

func (s *mirrorServer) FetchReferrers(ctx context.Context, req *syncerv1.FetchReferrersRequest) (*syncerv1.FetchReferrersResponse, error) {
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err == nil {
		err = s.mirror.FetchReferrers(ctx, actorOf(ctx, req.GetActor()), repo, d)
	}
	if err != nil {
		return nil, err
	}
	return &syncerv1.FetchReferrersResponse{}, nil
}

func (s *mirrorServer) Covers(ctx context.Context, req *syncerv1.CoversRequest) (*syncerv1.CoversResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	c, err := s.mirror.Covers(ctx, repo)
	if err != nil {
		return nil, err
	}
	return &syncerv1.CoversResponse{Rule: text(c.Rule), Push: text(string(c.Push)), Claimed: c.Claimed, Forward: c.Forward}, nil
}

func (s *mirrorServer) Claim(ctx context.Context, req *syncerv1.ClaimRequest) (*syncerv1.ClaimResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err == nil {
		err = s.mirror.Claim(ctx, actorOf(ctx, req.GetActor()), repo)
	}
	if err != nil {
		return nil, err
	}
	return &syncerv1.ClaimResponse{}, nil
}

func (s *mirrorServer) Served(ctx context.Context, req *syncerv1.ServedRequest) (*syncerv1.ServedResponse, error) {
	all := make([]registry.Served, len(req.GetServed()))
	for i, x := range req.GetServed() {
		repo, err := registry.ParseName(x.GetRepository())
		if err != nil {
			return nil, err
		}
		all[i] = registry.Served{Repository: repo, Bytes: x.GetBytes()}
	}
	if err := s.mirror.Served(ctx, all); err != nil {
		return nil, err
	}
	return &syncerv1.ServedResponse{}, nil
}

func (s *mirrorServer) ListRules(ctx context.Context, _ *syncerv1.ListRulesRequest) (*syncerv1.ListRulesResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	all, err := s.mirror.MirrorRules(ctx)
	if err != nil {
		return nil, err
	}
	resp := &syncerv1.ListRulesResponse{Rules: make([]*syncerv1.Rule, len(all))}
	for i, r := range all {
		resp.Rules[i] = &syncerv1.Rule{
			Name: text(r.Name), Urls: texts(r.URLs), OnDemand: r.OnDemand, IntervalUs: r.Interval.Microseconds(), Push: text(string(r.Push)),
			Paused: r.Paused, Running: r.Running, Down: r.Down, LastRunUs: r.LastRun, LastError: text(r.LastError),
			Done: r.Done, Total: r.Total, Requests: r.Requests, Bytes: r.Bytes, Budget: r.Budget, Scope: texts(r.Scope),
			Rate: r.Rate, Speed: r.Speed, MonthBytes: r.MonthBytes, MonthLimit: r.MonthLimit, Waits: text(r.Waits), Hits: r.Hits, Misses: r.Misses,
			Prune: text(r.Prune), Pruned: r.Pruned, Saved: r.Saved,
		}
	}
	return resp, nil
}

// texts is text for each of all.
func texts(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = text(s)
	}
	return out
}

func (s *mirrorServer) ListPresence(ctx context.Context, req *syncerv1.ListPresenceRequest) (*syncerv1.ListPresenceResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	list, err := s.mirror.Presence(ctx, repo, registry.Page[registry.Tag]{After: registry.Tag(req.GetAfter()), Limit: int(req.GetLimit())})
	if err != nil {
		return nil, err
	}
	resp := &syncerv1.ListPresenceResponse{More: list.More}
	for _, t := range list.Items {
		x := &syncerv1.TagPresence{Tag: text(string(t.Tag)), Digest: text(string(t.Digest)), State: text(string(t.State)), Have: t.Have, Size: t.Size}
		for _, p := range t.Platforms {
			x.Platforms = append(x.Platforms, &syncerv1.PlatformPresence{
				Platform: text(p.Platform), Digest: text(string(p.Digest)), State: text(string(p.State)), Have: p.Have, Size: p.Size,
			})
		}
		resp.Tags = append(resp.Tags, x)
	}
	return resp, nil
}

func (s *mirrorServer) ListFills(ctx context.Context, _ *syncerv1.ListFillsRequest) (*syncerv1.ListFillsResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	all, err := s.mirror.Fills(ctx)
	if err != nil {
		return nil, err
	}
	resp := &syncerv1.ListFillsResponse{Fills: make([]*syncerv1.Fill, len(all))}
	for i, f := range all {
		resp.Fills[i] = &syncerv1.Fill{
			Digest: text(string(f.Digest)), Repository: text(string(f.Repository)), Rule: text(f.Rule), Have: f.Have, Size: f.Size,
			Readers: f.Readers, SinceUs: f.Since, Error: text(f.Error), Priority: text(f.Priority), Speed: f.Speed, EtaS: f.ETA,
		}
	}
	return resp, nil
}

func (s *mirrorServer) Explain(ctx context.Context, req *syncerv1.ExplainRequest) (*syncerv1.ExplainResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	lines, err := s.mirror.Explain(ctx, repo)
	if err != nil {
		return nil, err
	}
	for i := range lines {
		lines[i] = text(lines[i])
	}
	return &syncerv1.ExplainResponse{Lines: lines}, nil
}

func (s *mirrorServer) Examine(ctx context.Context, req *syncerv1.ExamineRequest) (*syncerv1.ExamineResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	all, err := s.mirror.Examine(ctx, req.GetRule())
	if err != nil {
		return nil, err
	}
	resp := &syncerv1.ExamineResponse{Steps: make([]*syncerv1.Step, len(all))}
	for i, c := range all {
		resp.Steps[i] = &syncerv1.Step{Step: text(c.Step), Ok: c.OK, Text: text(c.Text)}
	}
	return resp, nil
}

func (s *mirrorServer) Trigger(ctx context.Context, req *syncerv1.TriggerRequest) (*syncerv1.TriggerResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	if err := s.mirror.Trigger(ctx, req.GetRule()); err != nil {
		return nil, err
	}
	return &syncerv1.TriggerResponse{}, nil
}

func (s *mirrorServer) Pause(ctx context.Context, req *syncerv1.PauseRequest) (*syncerv1.PauseResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	if err := s.mirror.Pause(ctx, req.GetRule(), req.GetPaused()); err != nil {
		return nil, err
	}
	return &syncerv1.PauseResponse{}, nil
}

func (s *mirrorServer) Forget(ctx context.Context, req *syncerv1.ForgetRequest) (*syncerv1.ForgetResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	repo, err := registry.ParseName(req.GetRepository())
	if err == nil {
		err = s.mirror.Forget(ctx, repo)
	}
	if err != nil {
		return nil, err
	}
	return &syncerv1.ForgetResponse{}, nil
}

func (s *mirrorServer) Check(ctx context.Context, _ *syncerv1.CheckRequest) (*syncerv1.CheckResponse, error) {
	if _, err := s.mirror.Check(ctx); err != nil {
		return nil, err
	}
	return &syncerv1.CheckResponse{}, nil
}
