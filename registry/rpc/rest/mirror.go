package rest

import (
	"context"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

// steer returns the mirror, for administrators. What mirrors know has no other rights.
func (s *server) steer(ctx context.Context) (registry.Mirror, error) {
	a := actor(ctx)
	may, err := s.catalog.Allowed(ctx, a, "", registry.ActAdmin)
	if err == nil && !may.Has(registry.ActAdmin) {
		err = a.Refusal("only administrators (http.accessControl.adminPolicy) look after mirrors")
	}
	if err == nil && s.mirror == nil {
		err = registry.ErrUnsupported.With("this registry mirrors no other")
	}
	return s.mirror, err
}

func (s *server) GetMirrors(ctx context.Context, _ *apiv1.GetMirrorsRequest) (*apiv1.GetMirrorsResponse, error) {
	m, err := s.steer(ctx)
	if err != nil {
		return nil, err
	}
	rules, err := m.MirrorRules(ctx)
	if err != nil {
		return nil, err
	}
	fills, err := m.Fills(ctx)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.GetMirrorsResponse)
	for _, r := range rules {
		x := &apiv1.MirrorRule{
			Name: r.Name, Urls: r.URLs, OnDemand: r.OnDemand, Push: string(r.Push), Paused: r.Paused, Running: r.Running, Down: r.Down,
			LastError: r.LastError, Done: r.Done, Total: r.Total, Requests: r.Requests, Bytes: r.Bytes, Speed: r.Speed, Rate: r.Rate,
			MonthBytes: r.MonthBytes, MonthLimit: r.MonthLimit, PullsLeft: r.Budget, Hits: r.Hits, Misses: r.Misses, Waits: r.Waits,
			Prune: r.Prune, Pruned: r.Pruned, Saved: r.Saved,
		}
		if r.LastRun > 0 {
			x.LastRun = timestamp(r.LastRun)
		}
		resp.Rules = append(resp.Rules, x)
	}
	for _, f := range fills {
		resp.Fetches = append(resp.Fetches, &apiv1.MirrorFetch{
			Digest: f.Digest.String(), Repository: string(f.Repository), Rule: f.Rule, Have: f.Have, Size: f.Size, Readers: f.Readers,
			Since: timestamp(f.Since), Error: f.Error, Priority: f.Priority, Speed: f.Speed, Eta: f.ETA,
		})
	}
	return resp, nil
}

func (s *server) TestMirror(ctx context.Context, req *apiv1.TestMirrorRequest) (*apiv1.TestMirrorResponse, error) {
	m, err := s.steer(ctx)
	if err != nil {
		return nil, err
	}
	steps, err := m.Examine(ctx, req.GetRule())
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.TestMirrorResponse)
	for _, x := range steps {
		resp.Steps = append(resp.Steps, &apiv1.MirrorStep{Step: x.Step, Ok: x.OK, Text: x.Text})
	}
	return resp, nil
}

func (s *server) TriggerMirror(ctx context.Context, req *apiv1.TriggerMirrorRequest) (*apiv1.TriggerMirrorResponse, error) {
	m, err := s.steer(ctx)
	if err == nil {
		err = m.Trigger(ctx, req.GetRule())
	}
	if err != nil {
		return nil, err
	}
	return new(apiv1.TriggerMirrorResponse), nil
}

func (s *server) PauseMirror(ctx context.Context, req *apiv1.PauseMirrorRequest) (*apiv1.PauseMirrorResponse, error) {
	m, err := s.steer(ctx)
	if err == nil {
		err = m.Pause(ctx, req.GetRule(), req.GetPaused())
	}
	if err != nil {
		return nil, err
	}
	return new(apiv1.PauseMirrorResponse), nil
}

func (s *server) ExplainMirror(ctx context.Context, req *apiv1.ExplainMirrorRequest) (*apiv1.ExplainMirrorResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	m, err := s.steer(ctx)
	if err != nil {
		return nil, err
	}
	lines, err := m.Explain(ctx, repo)
	if err != nil {
		return nil, err
	}
	return &apiv1.ExplainMirrorResponse{Lines: lines}, nil
}

func (s *server) ForgetMirror(ctx context.Context, req *apiv1.ForgetMirrorRequest) (*apiv1.ForgetMirrorResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	m, err := s.steer(ctx)
	if err == nil {
		err = m.Forget(ctx, repo)
	}
	if err != nil {
		return nil, err
	}
	return new(apiv1.ForgetMirrorResponse), nil
}

func (s *server) ListPresence(ctx context.Context, req *apiv1.ListPresenceRequest) (*apiv1.ListPresenceResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	p, err := page[registry.Tag](req.Limit, req.GetAfter())
	if err == nil && p.After != "" {
		p.After, err = registry.ParseTag(req.GetAfter())
	}
	if err != nil {
		return nil, err
	}
	m, err := s.steer(ctx)
	if err != nil {
		return nil, err
	}
	list, err := m.Presence(ctx, repo, p)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListPresenceResponse)
	for _, t := range list.Items {
		x := &apiv1.TagPresence{Tag: string(t.Tag), Digest: t.Digest.String(), State: string(t.State), Have: t.Have, Size: t.Size}
		for _, i := range t.Platforms {
			x.Platforms = append(x.Platforms, &apiv1.PlatformPresence{
				Platform: i.Platform, Digest: i.Digest.String(), State: string(i.State), Have: i.Have, Size: i.Size,
			})
		}
		resp.Items = append(resp.Items, x)
		if list.More {
			resp.Next = string(t.Tag)
		}
	}
	return resp, nil
}
