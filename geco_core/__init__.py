"""The GECO Forge library: models, maths and meshes.

Imports neither Ray nor boto3 and never opens a socket.
"""
