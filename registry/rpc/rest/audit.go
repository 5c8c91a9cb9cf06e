package rest

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

func (s *server) ListAudit(ctx context.Context, req *apiv1.ListAuditRequest) (*apiv1.ListAuditResponse, error) {
	n, err := limitOf(req.Limit)
	if err != nil {
		return nil, err
	}
	q := registry.AuditQuery{Actor: req.GetUser(), Action: req.GetAction(), Object: req.GetObject(), Before: req.GetAfter(), Limit: n}
	for key, t := range map[*int64]*timestamppb.Timestamp{&q.Since: req.GetSince(), &q.Until: req.GetUntil()} {
		if t != nil {
			if err := t.CheckValid(); err != nil {
				return nil, registry.ErrParameterInvalid.With("since and until are times such as 2026-11-30T12:00:00Z")
			}
			*key = t.AsTime().UnixMicro()
		}
	}
	list, err := s.catalog.AuditLog(ctx, actor(ctx), q)
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListAuditResponse)
	for _, e := range list.Items {
		resp.Events = append(resp.Events, &apiv1.AuditEvent{
			Id: e.ID, Time: timestamp(e.At), Actor: e.Actor, Source: e.Source, Action: e.Action, Object: e.Object,
			Status: int32(e.Status), Result: e.Result, RequestId: e.RequestID,
		})
	}
	if n := len(list.Items); list.More && n > 0 {
		resp.Next = list.Items[n-1].ID
	}
	return resp, nil
}
