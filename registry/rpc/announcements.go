package rpc

import (
	"context"
	"encoding/json"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) Announce(ctx context.Context, all []registry.Announcement) error {
	if err := registry.CheckAnnouncements(all); err != nil {
		return err
	}
	req := &metadatav1.AnnounceRequest{Announcements: make([]*metadatav1.Announcement, len(all))}
	for i, e := range all {
		req.Announcements[i] = announcementToWire(e)
	}
	_, err := repeated(ctx, c, c.announcements.Announce, req)
	return err
}

func (c *catalog) Announced(ctx context.Context, a registry.Actor, q registry.AnnouncementQuery) (registry.List[registry.Announcement], error) {
	var list registry.List[registry.Announcement]
	actor, err := actorToWire(a)
	if err != nil {
		return list, err
	}
	if err := q.Check(); err != nil { // the limit might not fit into 32 bits
		return list, err
	}
	resp, err := read(ctx, c, c.announcements.ListAnnouncements, &metadatav1.ListAnnouncementsRequest{
		Actor: actor, Repository: string(q.Repo), Before: q.Before, Limit: int32(q.Limit),
	})
	for _, e := range resp.GetAnnouncements() {
		list.Items = append(list.Items, announcementFromWire(e))
	}
	list.More = resp.GetMore()
	return list, err
}

func (c *catalog) Sinks(ctx context.Context, a registry.Actor) ([]registry.SinkStatus, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return nil, err
	}
	resp, err := read(ctx, c, c.announcements.ListSinks, &metadatav1.ListSinksRequest{Actor: actor})
	var all []registry.SinkStatus
	for _, s := range resp.GetSinks() {
		all = append(all, registry.SinkStatus{
			Name: s.GetName(), Waiting: s.GetWaiting(), Delivered: s.GetDelivered(), Dropped: s.GetDropped(),
			Failures: s.GetFailures(), Error: s.GetError(), At: s.GetAtUs(),
		})
	}
	return all, err
}

func announcementToWire(e registry.Announcement) *metadatav1.Announcement {
	w := &metadatav1.Announcement{
		Id: text(e.ID), Type: text(e.Type), AtUs: e.At, Repository: text(string(e.Repo)), Reference: text(e.Reference), Digest: text(string(e.Digest)),
		MediaType: text(e.MediaType), ActorId: text(e.Actor), Address: text(e.Address), Method: text(e.Method), Agent: text(e.Agent),
	}
	for k, v := range e.Data {
		if w.Data == nil {
			w.Data = make(map[string][]byte, len(e.Data))
		}
		w.Data[text(k)] = v
	}
	return w
}

func announcementFromWire(w *metadatav1.Announcement) registry.Announcement {
	e := registry.Announcement{
		ID: w.GetId(), Type: w.GetType(), At: w.GetAtUs(), Repo: registry.Name(w.GetRepository()), Reference: w.GetReference(), Digest: registry.Digest(w.GetDigest()),
		MediaType: w.GetMediaType(), Actor: w.GetActorId(), Address: w.GetAddress(), Method: w.GetMethod(), Agent: w.GetAgent(),
	}
	for k, v := range w.GetData() {
		if e.Data == nil {
			e.Data = make(map[string]json.RawMessage, len(w.GetData()))
		}
		e.Data[k] = v
	}
	return e
}

// announcementServer serves the part of registry.Catalog that AnnouncementService
// has.
type announcementServer struct {
	metadatav1.UnimplementedAnnouncementServiceServer
	catalog registry.Catalog
}

func (s *announcementServer) Announce(ctx context.Context, req *metadatav1.AnnounceRequest) (*metadatav1.AnnounceResponse, error) {
	all := make([]registry.Announcement, len(req.GetAnnouncements()))
	for i, w := range req.GetAnnouncements() {
		all[i] = announcementFromWire(w)
	}
	if err := s.catalog.Announce(ctx, all); err != nil {
		return nil, err
	}
	return &metadatav1.AnnounceResponse{}, nil
}

func (s *announcementServer) ListAnnouncements(ctx context.Context, req *metadatav1.ListAnnouncementsRequest) (*metadatav1.ListAnnouncementsResponse, error) {
	list, err := s.catalog.Announced(ctx, actorOf(ctx, req.GetActor()), registry.AnnouncementQuery{
		Repo: registry.Name(req.GetRepository()), Before: req.GetBefore(), Limit: int(req.GetLimit()),
	})
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListAnnouncementsResponse{More: list.More}
	for _, e := range list.Items {
		resp.Announcements = append(resp.Announcements, announcementToWire(e))
	}
	return resp, nil
}

func (s *announcementServer) ListSinks(ctx context.Context, req *metadatav1.ListSinksRequest) (*metadatav1.ListSinksResponse, error) {
	all, err := s.catalog.Sinks(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	resp := new(metadatav1.ListSinksResponse)
	for _, k := range all {
		resp.Sinks = append(resp.Sinks, &metadatav1.Sink{
			Name: text(k.Name), Waiting: k.Waiting, Delivered: k.Delivered, Dropped: k.Dropped, Failures: k.Failures, Error: text(k.Error), AtUs: k.At,
		})
	}
	return resp, nil
}
