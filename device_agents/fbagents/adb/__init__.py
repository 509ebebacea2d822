"""The Android Debug Bridge: its server, or a device over USB and TCP."""
