// Package reflect makes a gRPC server tell which services, methods and messages
// it has (gRPC server reflection, version 1), for clients such as grpcurl.
//
// It is a package of its own for its weight: 0.3 MB of program, which berth-edge
// does without.
package reflect

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
)

// Register adds reflection to srv: it tells what is registered at the time of a
// question, including itself. Which clients may ask is in the table of methods
// of package rpc, as for any other method.
func Register(srv *grpc.Server) { reflection.RegisterV1(srv) }
