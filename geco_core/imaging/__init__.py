"""Images at the border of the library: untrusted bytes in, framed foregrounds out."""
