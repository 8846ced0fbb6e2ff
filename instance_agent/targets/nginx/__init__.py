"""The `nginx` target: by Lua without a reload, or by server blocks."""
