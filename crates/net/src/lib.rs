//! The transport: framed TCP, lanes, handshake, reconnect.
