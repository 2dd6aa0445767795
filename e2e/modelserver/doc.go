// Package modelserver plays a language model that follows a script, so that a
// real coding agent can be driven by a test without a network, an account or
// chance.
//
// New is the one entry point: the Server it returns is an http.Handler that
// speaks the part of the Anthropic Messages API which agents use (POST
// /v1/messages, streamed and not, and /v1/messages/count_tokens). Which turn
// comes next is read from the conversation that the agent sends, never counted,
// so a request that the agent repeats gets the same answer. Everything that
// arrives is recorded, and whatever does not fit the script is a fault that the
// test reads with Err.
//
// It does not understand anything it is told, and it does not listen by
// itself: serve it on loopback with net/http/httptest.
package modelserver
