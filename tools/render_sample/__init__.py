"""Render the sample of the demo: short videos of a posed 3D hand beside a face.

The output has the layout of the contest data, with the truth beside it::

    data/sample/TRAIN_DATA/<video_name>/<frame>.jpg   640 x 480
    data/sample/train.csv                             video_name, frame_id, class_name, frame_path
    data/sample/truth.json                            {frame_path: {"hands": [box], "faces": [box]}}, one line per frame

A box is ``[x1, y1, x2, y2]`` in pixels. The box of a hand is exact: it bounds the rendered vertices of the hand mesh
down to the wrist, without forearm and sleeve, clipped to the frame. The box of the face was annotated by hand and moves
with the picture.

The sample shows how the project works, not how well: poses, skin, light and positions were tuned until the default
detectors found the hands. Rendering is reproducible to the byte on the same machine with the same package versions and
OpenGL driver; elsewhere pixels may differ.

Sources:

- the rigged hand: ``generic-hand/right.glb`` of the npm package ``@webxr-input-profiles/assets`` 1.0.20,
  MIT License, copyright (c) 2019 Amazon;
- the person: ``skimage.data.astronaut()``, Eileen Collins, NASA, public domain;
- backgrounds, all from scikit-image's wheel: ``coffee()`` (Rachel Michetti, CC0), ``rocket()`` (SpaceX, public
  domain), ``brick()`` and ``gravel()`` (CC0Textures, CC0), ``grass()`` (linolafett, CC0); the others are drawn.

Requires the extra ``sample`` (``pip install -e '.[sample]'``) and, without ``--hand``, npm. From the repository root::

    python -m tools.render_sample --output data/sample
"""
