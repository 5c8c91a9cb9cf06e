// Package rpc carries the ports of package registry over gRPC, in both
// directions: [NewBlobs] and [NewCatalog] are clients that have the methods of a
// port, [ServeBlobs] and [ServeCatalog] serve a port to such clients. It is the
// only place that knows protobuf.
//
// Beside it, package rest serves the ports as REST, and package reflect adds
// reflection.
//
// It owns nothing but connections. [Dial] and [NewServer] hold every setting of
// the transport: addresses, keep-alive, windows, limits of size and time.
//
// # Bytes
//
// Blobs travel as messages of up to 256 KiB that our codec passes to and from the
// transport by reference: see chunk.go and docs/adr/0002-chunk-codec.md. On the
// wire they are ordinary protobuf messages. A reader gets the last bytes of a
// blob only when the server has said that all is well.
//
// # Failures
//
// A [registry.Error] goes through as it is, except for its cause, which stays in
// the server's log. Any other error becomes [registry.ErrInternal], and what
// went wrong stays in the log, too. The end of the caller's context is that
// context's error. Whatever the network does is [registry.ErrUnavailable].
//
// # Time
//
// A unary call ends after 30 s, or 60 s if it writes, unless its context says
// otherwise. Nothing limits a transfer as a whole; but when nothing moves for
// 60 s the client gives it up, and after 90 s the server does. A sender that
// waits for more bytes sends those it has after a second, and one whose peer is
// slow sends small messages, so that slow peers are not taken for dead ones.
//
// # Replicas
//
// Calls go in turn to all replicas that are connected and say that they are well.
// One whose calls keep failing, or get no answer, is left out for half a second
// and then for longer, up to five, until a call to see succeeds; a caller for whom
// nobody is left gets [registry.ErrUnavailable] at once. No replica has more than
// 4,096 calls of ours in progress.
//
// What may happen twice without harm is tried again, at another replica if there
// is one, when the network fails: twice, after 50 and 100 ms. These are the calls
// that only read, Remove, and Commit, as far as nobody has its bytes or the server
// may have had them all. Content whose stream breaks is opened again behind what
// was read, for up to three seconds without a byte. No other call is ever sent
// again once its bytes may have reached a server.
package rpc
