// Package webhook is about the signatures of events that are posted (Standard Webhooks
// 1.0): those who send them and those who take them agree on what is signed.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"io"
)

// The headers of an event: what it is called, when it was sent in seconds since 1970, and
// "v1," with a [MAC] in base64, several with a space between.
const (
	ID        = "Webhook-Id"
	Timestamp = "Webhook-Timestamp"
	Signature = "Webhook-Signature"
)

// MAC is the HMAC-SHA-256 over id, time and body.
func MAC(secret, id, at string, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, id+"."+at+".")
	_, _ = mac.Write(body)
	return mac.Sum(nil)
}
