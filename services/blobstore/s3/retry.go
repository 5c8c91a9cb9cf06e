package s3

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

const (
	maxAttempts = 5
	backoffBase = 50 * time.Millisecond
	backoffMax  = 5 * time.Second
	// budgetShare is how many requests earn one retry, budgetMax how many
	// retries are saved up: a store in trouble gets no more than a tenth of
	// requests on top.
	budgetShare = 10
	budgetMax   = 100
)

// newRetryer returns what decides about second attempts of requests. Should the
// credentials have expired before their time, others are asked for.
func newRetryer(credentials aws.CredentialsProvider) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = maxAttempts
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return backoff(attempt), nil
		})
		o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if errors.Is(err, errAnswer) || errors.Is(err, errStalled) || errors.Is(err, io.ErrUnexpectedEOF) || conflicting(err) {
				return aws.TrueTernary
			}
			if cache, ok := credentials.(*aws.CredentialsCache); ok && expired(err) {
				cache.Invalidate()
				return aws.TrueTernary
			}
			return aws.UnknownTernary
		}))
		o.RateLimiter = newBudget()
		o.RetryCost, o.RetryTimeoutCost, o.ThrottlingRetryCost = budgetShare, budgetShare, budgetShare
		o.NoRetryIncrement = 1
	})
}

// backoff returns how long to wait after the given attempt, counted from 1:
// anything up to a limit that doubles each time.
func backoff(attempt int) time.Duration {
	limit := backoffMax
	if attempt < 16 {
		limit = min(limit, backoffBase<<attempt)
	}
	return rand.N(limit)
}

var errBudget = errors.New("too many requests fail: not trying again")

// budget is a token bucket for retries. Unlike the SDK's a retry that succeeds
// gives nothing back.
type budget struct {
	mu   sync.Mutex
	left uint
}

func newBudget() *budget { return &budget{left: budgetMax * budgetShare} }

// GetToken implements [retry.RateLimiter].
func (b *budget) GetToken(_ context.Context, cost uint) (func() error, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < cost {
		return nil, errBudget
	}
	b.left -= cost
	return func() error { return nil }, nil
}

// AddTokens implements [retry.RateLimiter].
func (b *budget) AddTokens(n uint) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(b.left+n, budgetMax*budgetShare)
	return nil
}
