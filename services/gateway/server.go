package gateway

import (
	"log/slog"
	"net/http"
)

// Server returns a server for g with the limits that g relies on. It has no
// total time limits: those would break honest slow transfers. Serve it on a TCP
// listener, plain or in [Bulk] (others that wrap connections cost sendfile), and
// end it with Shutdown, which lets requests in progress finish until its context ends.
// [Configured] bounds the number of connections besides.
func (g *Gateway) Server() *http.Server {
	return &http.Server{
		Handler:           g,
		ConnContext:       withConn,
		ConnState:         g.conns.state,
		ReadHeaderTimeout: g.cfg.HeaderTimeout,
		IdleTimeout:       g.cfg.KeepAlive,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
		HTTP2: &http.HTTP2Config{
			// One stalled layer must not stop the others on its connection.
			MaxReceiveBufferPerStream:     1 << 20,
			MaxReceiveBufferPerConnection: 4 << 20,
		},
	}
}
