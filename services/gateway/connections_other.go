//go:build !unix

package gateway

func defaultConnections() int { return 0 }
