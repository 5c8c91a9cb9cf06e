package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) RecordAudit(ctx context.Context, events []registry.AuditEvent) error {
	req := &metadatav1.RecordAuditRequest{Events: make([]*metadatav1.AuditEvent, len(events))}
	for i, e := range events {
		req.Events[i] = auditToWire(e)
	}
	_, err := repeated(ctx, c, c.audit.RecordAudit, req)
	return err
}

func (c *catalog) AuditLog(ctx context.Context, a registry.Actor, q registry.AuditQuery) (registry.List[registry.AuditEvent], error) {
	var list registry.List[registry.AuditEvent]
	actor, err := actorToWire(a)
	if err != nil {
		return list, err
	}
	if err := q.Check(); err != nil { // the limit might not fit into 32 bits
		return list, err
	}
	resp, err := read(ctx, c, c.audit.ListAudit, &metadatav1.ListAuditRequest{
		Actor: actor, By: text(q.Actor), Action: text(q.Action), Object: text(q.Object),
		SinceUs: q.Since, UntilUs: q.Until, Before: text(q.Before), Limit: int32(q.Limit),
	})
	for _, e := range resp.GetEvents() {
		list.Items = append(list.Items, registry.AuditEvent{
			ID: e.GetId(), At: e.GetAtUs(), Actor: e.GetActorId(), Source: e.GetSource(), Action: e.GetAction(), Object: e.GetObject(),
			Status: int(e.GetStatus()), Result: e.GetResult(), RequestID: e.GetRequestId(),
		})
	}
	list.More = resp.GetMore()
	return list, err
}

func auditToWire(e registry.AuditEvent) *metadatav1.AuditEvent {
	return &metadatav1.AuditEvent{
		Id: text(e.ID), AtUs: e.At, ActorId: text(e.Actor), Source: text(e.Source), Action: text(e.Action), Object: text(e.Object),
		Status: int32(e.Status), Result: text(e.Result), RequestId: text(e.RequestID),
	}
}

// auditServer serves the part of registry.Catalog that AuditService has.
type auditServer struct {
	metadatav1.UnimplementedAuditServiceServer
	catalog registry.Catalog
}

func (s *auditServer) RecordAudit(ctx context.Context, req *metadatav1.RecordAuditRequest) (*metadatav1.RecordAuditResponse, error) {
	events := make([]registry.AuditEvent, len(req.GetEvents()))
	for i, e := range req.GetEvents() {
		events[i] = registry.AuditEvent{
			ID: e.GetId(), At: e.GetAtUs(), Actor: e.GetActorId(), Source: e.GetSource(), Action: e.GetAction(), Object: e.GetObject(),
			Status: int(e.GetStatus()), Result: e.GetResult(), RequestID: e.GetRequestId(),
		}
	}
	if err := s.catalog.RecordAudit(ctx, events); err != nil {
		return nil, err
	}
	return &metadatav1.RecordAuditResponse{}, nil
}

func (s *auditServer) ListAudit(ctx context.Context, req *metadatav1.ListAuditRequest) (*metadatav1.ListAuditResponse, error) {
	list, err := s.catalog.AuditLog(ctx, actorOf(ctx, req.GetActor()), registry.AuditQuery{
		Actor: req.GetBy(), Action: req.GetAction(), Object: req.GetObject(),
		Since: req.GetSinceUs(), Until: req.GetUntilUs(), Before: req.GetBefore(), Limit: int(req.GetLimit()),
	})
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListAuditResponse{Events: make([]*metadatav1.AuditEvent, len(list.Items)), More: list.More}
	for i, e := range list.Items {
		resp.Events[i] = auditToWire(e)
	}
	return resp, nil
}
