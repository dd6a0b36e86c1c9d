"""How any config is read: frozen sections, YAML as YAML 1.2 means it, errors that name the field.

section  frozen sections of a config, and errors that name the field
yaml12   YAML as YAML 1.2 means it
places   arguments of commands that are a file or a folder of this machine
"""
